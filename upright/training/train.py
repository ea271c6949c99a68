"""Training: from a task and settings to a run folder with a kept policy for each seed."""

import itertools
import json
import re
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax

from upright.agents.dqn import DQN
from upright.checks import early
from upright.errors import UprightError
from upright.runs import Run, RunWriter
from upright.tasks import NAMES
from upright.training import engine, machine
from upright.training.config import Config
from upright.training.drivers import make_driver
from upright.training.fleet import Driver
from upright.training.interrupt import Interrupt
from upright.training.presets import find_preset
from upright.training.records import Status, Watch
from upright.training.seeds import read_seeds
from upright.training.session import Session

CHECKPOINT_STEPS = 10_000
# Evaluations: a compiled one costs next to nothing; one in Gymnasium as much as training does.
_EVALUATIONS = {  # every so many steps, of so many episodes
    "fused": (1000, 50),
    "stepwise": (2000, 10),
}


def train(
    task: str = "CartPole-v1",
    *,
    preset: str = "default",
    agent: DQN | None = None,
    seeds: int | str | Iterable[Any] = 20,
    steps: int | None = None,
    episodes: int | None = None,
    evaluate_every: int | None = None,
    evaluation_episodes: int | None = None,
    checkpoint_every: int = CHECKPOINT_STEPS,
    driver: Literal["auto", "fused", "stepwise"] = "auto",
    render: Literal["human"] | None = None,
    out: str | Path | None = None,
    watch: Watch | None = None,
) -> Run:
    """Trains one agent for each seed and returns the run.

    `task`: the id of a native task or of any Gymnasium environment with a Box of observations and
    Discrete actions; "my_robot:Arm-v0" imports the module my_robot first.
    `seeds`: a number of them, whole numbers, or text as on the command line ("1000:1020").
    `agent` and the budget (`steps` or `episodes` for each seed): the preset's unless given.
    `evaluate_every`: steps between two greedy evaluations, of `evaluation_episodes` episodes each;
    by default 1000 and 50, where Gymnasium does the steps 2000 and 10.
    `checkpoint_every`: steps between two checkpoints, from which `resume` goes on.
    `driver`: "fused" (native tasks only: all in one compiled loop) or "stepwise" (Gymnasium).
    `render`: "human" shows the first seed in a window while it learns, stepwise.
    `out`: the run folder, which must not exist or be empty; by default runs/TASK-PRESET-DATE.
    `watch`: is called with the `Status`, some times a second, from any thread.

    Ctrl-C ends in order: the run then holds all that was learned. If the environment of a seed
    fails, the others go on, and the run's status is "failed". Raises UprightError on bad input,
    before anything is written.
    """
    chosen = find_preset(preset)
    if steps is None and episodes is None:
        steps, episodes = chosen.steps, chosen.episodes
    if driver != "stepwise":
        task = task.removeprefix("upright/")  # the same task, as Gymnasium knows it
    if driver == "auto":
        driver = "fused" if task in NAMES and not render else "stepwise"
    if render and driver == "fused":
        raise UprightError("the fused driver cannot show a window; leave --driver out")
    every, each = _EVALUATIONS[driver]
    config = Config(
        task=task,
        driver=driver,
        preset=preset,
        agent=agent or chosen.agent,
        seeds=read_seeds(seeds),
        steps=steps,
        episodes=episodes,
        evaluate_every=every if evaluate_every is None else evaluate_every,
        evaluation_episodes=each if evaluation_episodes is None else evaluation_episodes,
        checkpoint_every=checkpoint_every,
    )
    watch = watch or (lambda status: None)
    with _running(watch) as interrupt:
        ready = make_driver(config, render)
        path = Path(out) if out is not None else _default_folder(config)
        with RunWriter.create(path, _describe(config, ready)) as writer:
            for finding in early.check(config.agent, ready.spec, config.steps, config.episodes):
                writer.warn(f"{finding.seen}; {finding.fix}")
            session = Session(config, ready, writer, interrupt, watch)
            session.learn()
            session.judge()
    return Run(path)


def resume(
    run: str | Path,
    *,
    steps: int | None = None,
    episodes: int | None = None,
    task: str | None = None,
    render: Literal["human"] | None = None,
    watch: Watch | None = None,
) -> Run:
    """Goes on with a run, as if it had never been interrupted, and returns it.

    `steps` or `episodes`: another budget for each seed, of the kind that the run has.
    `task`: the run's; needed if its id names a module, which is imported only if you say so.
    `render`, `watch`: as in `train`.

    Raises UprightError if there is nothing to go on with, or nothing left to do.
    """
    path = Path(run)
    watch = watch or (lambda status: None)
    with _running(watch) as interrupt, RunWriter.reopen(path) as writer:
        before = Config.from_dict(writer.info["config"])
        config = _same_or_larger(before, steps, episodes)
        if config == before and writer.info["status"] == "finished":
            raise UprightError(f"{path}: is finished; --steps or --episodes gives it more to do")
        if task not in (None, config.task):
            raise UprightError(f"{path}: its task is {config.task}, not {task}")
        if ":" in config.task and not task:
            module = config.task.partition(":")[0]
            raise UprightError(
                f"{path}: its task is in the module {module!r}; if you trust it: --task"
                f" {config.task}"
            )
        ready = make_driver(config, render)
        if json.loads(json.dumps(ready.spec.to_dict())) != writer.info["spec"]:
            raise UprightError(f"{path}: {config.task} is not the same task any more (spec)")
        session = Session(config, ready, writer, interrupt, watch)
        session.restore()
        writer.info.setdefault("resumed", []).append(
            {
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": sys.argv,
                "at_steps": session.steps,
                **machine.describe(),
            }
        )
        writer.save_info(status="running", config=config.to_dict(), results=[])
        session.learn()
        session.judge()
    return Run(path)


@contextmanager
def _running(watch: Watch) -> Generator[Interrupt]:
    """Where Ctrl-C is heard and JAX is ready."""
    engine.prepare()
    with Interrupt(partial(watch, Status("stopping", 0.0))) as interrupt:
        try:
            yield interrupt
        except jax.errors.JaxRuntimeError as error:
            if "memory" not in str(error):
                raise
            raise UprightError(
                "not enough memory for a network, batch or replay so large"
            ) from None


def _same_or_larger(config: Config, steps: int | None, episodes: int | None) -> Config:
    for name, value in (("steps", steps), ("episodes", episodes)):
        before = getattr(config, name)
        if value is None:
            continue
        if before is None:
            raise UprightError(f"the run has no budget of {name}, so {name} {value} is none for it")
        if value < before:
            raise UprightError(f"{name} is {value}; the run has {before} already")
        config = replace(config, **{name: value})
    return config


def _describe(config: Config, driver: Driver) -> dict[str, Any]:
    """What run.json says from the beginning: what was asked, and on what."""
    return {
        "command": sys.argv,
        "config": config.to_dict(),
        "changes": _changes(config),
        "spec": driver.spec.to_dict(),
        "seeds": list(config.seeds),
        "results": [],
        **machine.describe(),
    }


def _default_folder(config: Config) -> Path:
    """Named by the second, with a number where several begin in one."""
    task = re.sub(r"[^\w.-]+", "-", config.task)  # an id may have a colon or a slash
    name = f"{task}-{config.preset}-{datetime.now():%Y%m%d-%H%M%S}"
    numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    paths = (Path("runs") / f"{name}{number}" for number in numbers)
    return next(path for path in paths if not path.exists())


def _changes(config: Config) -> list[str]:
    """The agent's settings that are not the preset's, e.g. "gamma 0.9"."""
    usual = asdict(find_preset(config.preset).agent)
    return [
        f"{name} {value}" for name, value in asdict(config.agent).items() if value != usual[name]
    ]
