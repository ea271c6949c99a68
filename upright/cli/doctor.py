"""`upright doctor`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated

import tyro

from upright.agents.dqn import DQN
from upright.cli import console, physics, train
from upright.diagnosis import doctor


@dataclass(frozen=True)
class Command:
    """Looks for what is wrong with a task before you train on it, and says how to fix it.

    Plays 2,000 random steps. Exit status: 0 if there is no problem, 1 if there is one.
    """

    # its id, as for upright train
    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    preset: str = "default"  # as for upright train: default or article
    seeds: str = "20"  # that you mean to train, for the estimate of the time
    # budget for each seed [environment steps]; if none is given: the preset's
    steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    # budget for each seed [episodes], instead of --steps
    episodes: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    # parameters of a native task that are changed: half_length=1.0, torques=-1,0,1; or
    # --physics.half-length 1.0 (`upright tasks TASK` lists them)
    physics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    # parameters that are drawn anew for each episode, uniformly: half_length=0.25:1.0
    randomise: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=LOW:HIGH")] = ()
    # arguments of a Gymnasium environment itself: gravity=-5, or --env.gravity -5
    env: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    seed: int = 0  # of the random actions and the start states
    json: bool = False  # print JSON
    # settings of the agent, DQN; their defaults are the preset's
    agent: DQN = field(default_factory=DQN)

    def __call__(self) -> None:
        with console.Phases(quiet=self.json) as display:
            report = doctor(
                self.task,
                preset=self.preset,
                agent=self.agent,
                seeds=self.seeds,
                steps=self.steps,
                episodes=self.episodes,
                seed=self.seed,
                physics=physics.values(self.physics),
                randomise=physics.ranges(self.randomise),
                env=physics.arguments(self.env),
                watch=display.update,
            )
        if self.json:
            print(json.dumps(asdict(report), indent=2))
        else:
            console.print_report(report)
        sys.exit(1 if report.problems else 0)


prepare = train.prepare


def default(arguments: Sequence[str]) -> Command:
    """As for `upright train`: the agent's settings are the preset's."""
    return Command(task=tyro.MISSING, agent=train.default(arguments).agent)
