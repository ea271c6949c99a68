"""`upright resume`."""

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from upright.cli import console, physics, run_tables
from upright.runs.provenance import command_line
from upright.training.interrupt import ended
from upright.training.train import resume


@dataclass(frozen=True)
class Command:
    """Goes on with a run that was interrupted, as if it had not been; or with a larger budget.

    Whatever ended it, a power cut included: each seed goes on from its newest checkpoint. The
    result is the same, bit for bit, on the same machine and with the same versions. Seeds that
    another process is training are left to it.
    """

    # run folder
    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    # a larger budget for each seed [environment steps]
    steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    # a larger budget for each seed [episodes]
    episodes: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    # the run's task again, where its id names a module: only then the module is imported
    task: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None
    # the run's text among its --env.NAME VALUE again, which is passed on only then
    env: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    # show the first seed in a window
    render: Annotated[Literal["human"] | None, tyro.conf.arg(metavar="human")] = None

    def __call__(self) -> None:
        with command_line(sys.argv), console.Training() as display:
            run = ended(resume)(
                self.run,
                steps=self.steps,
                episodes=self.episodes,
                task=self.task,
                env=physics.arguments(self.env),
                render=self.render,
                watch=display.update,
            )
        run_tables.end_training(run)


prepare = physics.gather
