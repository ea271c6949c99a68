"""`upright play`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from upright.cli import console, physics, words
from upright.errors import UprightError
from upright.figures.video import play
from upright.runs import Run, open_run_or_policy


@dataclass(frozen=True)
class Command:
    """Shows a greedy episode of a policy, or of the best one of a run, in Gymnasium's renderer."""

    # run folder or policy file
    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_OR_POLICY")]
    # in a window; what happens if no file is asked for
    render: Annotated[Literal["human"] | None, tyro.conf.arg(metavar="human")] = None
    # write a GIF, half size, at most 25 frames/s
    gif: Annotated[Path | None, tyro.conf.arg(metavar="FILE.gif")] = None
    # write an MP4, full size, at the task's sampling rate
    mp4: Annotated[Path | None, tyro.conf.arg(metavar="FILE.mp4")] = None
    seed: int = 0  # of the start state: env.reset(seed=...), as `upright evaluate` prints it
    # cut the episode off after so many; if none is given: 1000, where the task has no time limit
    max_steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    # draw the physics as for each episode of its training; if not: their nominal values
    randomised: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    # another task or version of it, whose observations and actions fit; or the policy's own, if
    # its id names a module, which is imported only then
    task: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None
    # parameters of a native task that are changed: half_length=1.0, or --physics.half-length 1.0
    physics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    # arguments of a Gymnasium environment itself: gravity=-5, or --env.gravity -5
    env: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()

    def __call__(self) -> None:
        if self.render and (self.gif or self.mp4):
            raise UprightError("--render and a file are both given; choose one")
        target = open_run_or_policy(self.target)
        policy = target.best() if isinstance(target, Run) else target
        named = {".gif": self.gif, ".mp4": self.mp4}
        for ending, path in named.items():
            if path and path.suffix != ending:
                raise UprightError(f"{path}: --{ending[1:]} needs a name that ends in {ending}")
        files = [path for path in named.values() if path]
        episode = play(
            policy,
            files=files,
            task=self.task,
            seed=self.seed,
            randomised=self.randomised,
            max_steps=self.max_steps,
            physics=physics.values(self.physics),
            env=physics.arguments(self.env),
        )
        shown = words.count(episode.steps, "step")
        if episode.seconds is not None:
            shown += f", {episode.seconds:g} s"
        console.out.print(
            f"return {words.number(episode.total)} in {shown}, from start state {self.seed}"
        )
        if episode.changes:
            console.out.print("; ".join(episode.changes))
        elif played := words.played(policy.provenance, self.randomised):
            console.out.print(played)
        for path in files:
            console.out.print(f"wrote {path}")


prepare = physics.gather
