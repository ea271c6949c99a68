"""Training: from a task and settings to a run folder with a kept policy for each seed."""

import itertools
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import jax

from upright.agents.dqn import DQN
from upright.errors import UprightError
from upright.runs import Run, RunWriter
from upright.tasks import make_task
from upright.training import engine, machine
from upright.training.fused import Fused
from upright.training.interrupt import Interrupt
from upright.training.presets import find_preset
from upright.training.seeds import check_seeds, parse_seeds
from upright.training.session import CHUNK, Config, Session, Status, Watch


def train(
    task: str = "CartPole-v1",
    *,
    preset: str = "default",
    agent: DQN | None = None,
    seeds: int | str | Iterable[Any] = 20,
    steps: int | None = None,
    episodes: int | None = None,
    evaluate_every: int = 1000,
    evaluation_episodes: int = 50,
    out: str | Path | None = None,
    watch: Watch | None = None,
) -> Run:
    """Trains one agent for each seed and returns the run.

    `seeds`: a number of them, whole numbers, or text as on the command line ("1000:1020").
    `agent` and the budget (`steps` or `episodes` for each seed): the preset's unless given.
    `evaluate_every`: steps between two greedy evaluations, of `evaluation_episodes` episodes each.
    `out`: the run folder, which must not exist or be empty; by default runs/TASK-PRESET-DATE.
    `watch`: is called with the `Status`, some times a second; on Ctrl-C from another thread.

    Ctrl-C ends in order: the run then holds all that was learned. Raises UprightError on bad input,
    before anything is written.
    """
    watch = watch or (lambda status: None)
    chosen = find_preset(preset)
    seeds = seeds if isinstance(seeds, Iterable) else str(seeds)
    if steps is None and episodes is None:
        steps, episodes = chosen.steps, chosen.episodes
    config = Config(
        task=task,
        preset=preset,
        agent=agent or chosen.agent,
        seeds=parse_seeds(seeds) if isinstance(seeds, str) else check_seeds(seeds),
        steps=steps,
        episodes=episodes,
        evaluate_every=evaluate_every,
        evaluation_episodes=evaluation_episodes,
    )
    with Interrupt(partial(watch, Status("stopping", 0.0))) as interrupt:
        driver = Fused(make_task(task), config.agent, CHUNK, config.evaluation_episodes)
        engine.keep_programs()
        path = Path(out) if out is not None else _default_folder(config)
        try:
            with RunWriter(path, _describe(config, driver)) as writer:
                session = Session(config, driver, writer, interrupt, watch)
                session.learn()
                session.judge()
        except jax.errors.JaxRuntimeError as error:
            if "memory" not in str(error):
                raise
            raise UprightError(
                "not enough memory for a network, batch or replay so large"
            ) from None
    return Run(path)


def _describe(config: Config, driver: Fused) -> dict[str, Any]:
    """What run.json says from the beginning: what was asked, and on what."""
    return {
        "command": sys.argv,
        "config": asdict(config),
        "changes": _changes(config),
        "spec": driver.task.spec.to_dict(),
        "seeds": list(config.seeds),
        "results": [],
        **machine.describe(),
    }


def _default_folder(config: Config) -> Path:
    """Named by the second, with a number where several begin in one."""
    name = f"{config.task}-{config.preset}-{datetime.now():%Y%m%d-%H%M%S}"
    numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    paths = (Path("runs") / f"{name}{number}" for number in numbers)
    return next(path for path in paths if not path.exists())


def _changes(config: Config) -> list[str]:
    """The agent's settings that are not the preset's, e.g. "gamma 0.9"."""
    usual = asdict(find_preset(config.preset).agent)
    return [
        f"{name} {value}" for name, value in asdict(config.agent).items() if value != usual[name]
    ]
