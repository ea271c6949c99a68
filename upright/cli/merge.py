"""`upright merge`."""

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from upright.cli import run_tables
from upright.runs.provenance import command_line
from upright.training.merge import merge


@dataclass(frozen=True)
class Command:
    """Joins runs of the same training with other seeds, say from two machines, into a new one."""

    # run folders, two or more
    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN")]
    # the new run folder, must not exist or be empty
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER")]

    def __call__(self) -> None:
        with command_line(sys.argv):
            run = merge(self.runs, self.out)
        run_tables.print_run(run)
