"""`upright show`."""

from dataclasses import dataclass

import tyro

from upright.cli import console
from upright.runs import Run, open_run_or_policy


@dataclass(frozen=True)
class Command:
    """What a run or a policy file is: task, settings, where it comes from, how good it is."""

    target: tyro.conf.Positional[str]  # run folder or policy file

    def __call__(self) -> None:
        target = open_run_or_policy(self.target)
        if isinstance(target, Run):
            console.print_settings(target)
            console.print_run(target)
        else:
            console.print_policy(target)
