"""`upright show`."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from upright.cli import console, run_tables
from upright.runs import Run, open_run_or_policy


@dataclass(frozen=True)
class Command:
    """What a run or a policy file is: task, settings, where it comes from, how good it is."""

    # run folder or policy file
    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_OR_POLICY")]

    def __call__(self) -> None:
        target = open_run_or_policy(self.target)
        if isinstance(target, Run):
            run_tables.print_settings(target)
            run_tables.print_run(target)
        else:
            console.print_policy(target)
