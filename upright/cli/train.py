"""`upright train`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Literal

import tyro

from upright.agents.dqn import DQN
from upright.agents.presets import find_preset
from upright.cli import console, physics, run_tables
from upright.runs.provenance import command_line
from upright.training.config import CHECKPOINT_STEPS, FINAL_EPISODES
from upright.training.interrupt import ended
from upright.training.train import train


@dataclass(frozen=True)
class Command:
    """Trains a controller for each seed, keeps the best policy of each, judges these in Gymnasium.

    Ctrl-C ends in order: all that was learned is in the run folder, and `upright resume` goes on.
    """

    # its id, e.g. CartPole-v1; any of Gymnasium's with a Box of observations and Discrete actions;
    # my_robot:Arm-v0 imports the module my_robot first
    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    # named settings and budget: default (20000 steps) or article (3000 episodes); with it, --help
    # shows its settings
    preset: str = "default"
    seeds: str = "20"  # how many (20), a range (1000:1020) or a list (3,5,8)
    # budget for each seed [environment steps]; if none is given: the preset's
    steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    # budget for each seed [episodes], instead of --steps
    episodes: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    # between two greedy evaluations of a seed [steps]; if none is given: 1000, or hosted 2000
    evaluate_every: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    # fixed start states of an evaluation [episodes]; if none is given: 50, or hosted 10
    evaluation_episodes: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    checkpoint_every: int = CHECKPOINT_STEPS  # between two checkpoints [steps of each seed]
    final_episodes: int = FINAL_EPISODES  # that judge each kept policy after the training
    # cut evaluated episodes off after so many; if none is given: 1000, without a time limit
    max_steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    # one: a task of which there can be only one at a time, or which needs the main thread: one seed
    # learns and is evaluated in turn in a single environment
    environments: Literal["several", "one"] = "several"
    # compiled: environment and agent in one loop, for native tasks; hosted: Gymnasium's
    # environment; auto: compiled where possible
    runner: Literal["auto", "compiled", "hosted"] = "auto"
    # show the first seed in a window while it learns, hosted
    render: Annotated[Literal["human"] | None, tyro.conf.arg(metavar="human")] = None
    # parameters of a native task that are changed: half_length=1.0, torques=-1,0,1; or
    # --physics.half-length 1.0 (`upright tasks TASK` lists them)
    physics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    # parameters that are drawn anew for each episode, uniformly: half_length=0.25:1.0
    randomise: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=LOW:HIGH")] = ()
    # arguments of a Gymnasium environment itself: gravity=-5, or --env.gravity -5
    env: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    # run folder, must not exist or be empty; if none is given: runs/TASK-PRESET-DATE
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    # add these seeds to the run in --out, while other processes may be training its others
    join: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    # settings of the agent, DQN; their defaults are the preset's
    agent: DQN = field(default_factory=DQN)

    def __call__(self) -> None:
        with command_line(sys.argv), console.Training() as display:
            run = ended(train)(
                self.task,
                preset=self.preset,
                agent=self.agent,
                seeds=self.seeds,
                steps=self.steps,
                episodes=self.episodes,
                evaluate_every=self.evaluate_every,
                evaluation_episodes=self.evaluation_episodes,
                checkpoint_every=self.checkpoint_every,
                final_episodes=self.final_episodes,
                max_steps=self.max_steps,
                environments=self.environments,
                runner=self.runner,
                render=self.render,
                physics=physics.values(self.physics),
                randomise=physics.ranges(self.randomise),
                env=physics.arguments(self.env),
                out=self.out,
                join=self.join,
                watch=display.update,
            )
        run_tables.end_training(run)


def prepare(arguments: Sequence[str]) -> list[str]:
    """The arguments as the parser wants them: --physics.NAME is none of its options."""
    return physics.gather(arguments)


def default(arguments: Sequence[str]) -> Command:
    """The agent's settings are the preset's: --help shows them and --agent.* changes them."""
    name = "default"
    for argument, following in pairwise([*arguments, ""]):
        if argument == "--preset" and following:
            name = following
        elif argument.startswith("--preset="):
            name = argument.partition("=")[2]
    return Command(task=tyro.MISSING, agent=find_preset(name).agent)
