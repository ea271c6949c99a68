"""`upright runs`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from upright.cli import console, run_tables
from upright.runs import find_runs


@dataclass(frozen=True)
class Command:
    """A table of the runs in a folder, oldest first."""

    # where the run folders are
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")] = Path("runs")

    def __call__(self) -> None:
        runs, complaints = find_runs(self.folder)
        run_tables.print_runs(runs, self.folder)
        for complaint in complaints:
            console.out.print(f"left out: {complaint}")
