"""`upright plot`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from upright.figures.curves import plot
from upright.runs import Run


@dataclass(frozen=True)
class Command:
    """Learning curve of a run, against episodes and against steps, as PNG and SVG."""

    run: tyro.conf.Positional[str]  # run folder
    seed: int | None = None  # of this seed alone, with a moving average; None: of all
    out: Path | None = None  # folder for the pictures; None: RUN/figures

    def __call__(self) -> None:
        for path in plot(Run(self.run), self.out, self.seed):
            print(f"wrote {path}")
