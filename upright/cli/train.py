"""`upright train`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated

import tyro

from upright.agents.dqn import DQN
from upright.cli import console
from upright.training.presets import find_preset
from upright.training.train import train


@dataclass(frozen=True)
class Command:
    """Trains a controller for each seed, keeps the best policy of each, judges these in Gymnasium.

    Ctrl-C ends in order: all that was learned is in the run folder.
    """

    # its id, e.g. CartPole-v1
    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    # named settings and budget: default (20000 steps) or article (3000 episodes); with it, --help
    # shows its settings
    preset: str = "default"
    seeds: str = "20"  # how many (20), a range (1000:1020) or a list (3,5,8)
    # budget for each seed [environment steps]; if none is given: the preset's
    steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    # budget for each seed [episodes], instead of --steps
    episodes: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    evaluate_every: int = 1000  # between two greedy evaluations of a seed [steps]
    evaluation_episodes: int = 50  # fixed start states of an evaluation [episodes]
    # run folder, must not exist or be empty; if none is given: runs/TASK-PRESET-DATE
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    # settings of the agent, DQN; their defaults are the preset's
    agent: DQN = field(default_factory=DQN)

    def __call__(self) -> None:
        with console.Training() as display:
            run = train(
                self.task,
                preset=self.preset,
                agent=self.agent,
                seeds=self.seeds,
                steps=self.steps,
                episodes=self.episodes,
                evaluate_every=self.evaluate_every,
                evaluation_episodes=self.evaluation_episodes,
                out=self.out,
                watch=display.update,
            )
        console.print_run(run)
        if run.status == "interrupted":
            sys.exit(130)  # as the shell expects of Ctrl-C; a script does not go on


def default(arguments: Sequence[str]) -> Command:
    """The agent's settings are the preset's: --help shows them and --agent.* changes them."""
    name = "default"
    for argument, following in pairwise([*arguments, ""]):
        if argument == "--preset":
            name = following
        elif argument.startswith("--preset="):
            name = argument.partition("=")[2]
    return Command(task=tyro.MISSING, agent=find_preset(name).agent)
