"""`upright show`."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Annotated

import tyro

from upright.calling import check_kind, names_checked
from upright.cli import console, run_tables
from upright.policy import Policy
from upright.runs import Run, open_run_or_policy


@names_checked
def show(target: Run | Policy | str | Path) -> None:
    """Prints what a run or a policy is: itself, or the folder or file of one.

    Raises UprightError for anything else.
    """
    if not isinstance(target, Run | Policy):
        check_kind("target", target, str | PathLike, "a Run, a Policy, or the path of one")
        target = open_run_or_policy(target)
    if isinstance(target, Run):
        run_tables.print_settings(target)
        run_tables.print_run(target)
        for result in filter(lambda result: result.error, target.results):
            console.out.print(f"seed {result.seed}: {result.error}")
    else:
        console.print_policy(target)


@dataclass(frozen=True)
class Command:
    """What a run or a policy file is: task, settings, where it comes from, how good it is."""

    # run folder or policy file
    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_OR_POLICY")]

    def __call__(self) -> None:
        show(self.target)
