"""`upright plot`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from upright.cli import console
from upright.figures.curves import plot


@dataclass(frozen=True)
class Command:
    """Learning curve of a run, against episodes and against steps, as PNG and SVG."""

    # run folder
    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    # of this seed alone, with a moving average; if none is given: of all
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    # folder for the pictures; if none is given: RUN/figures
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None

    def __call__(self) -> None:
        for path in plot(self.run, self.out, self.seed):
            console.out.print(f"wrote {path}")
