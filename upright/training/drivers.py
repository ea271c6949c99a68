"""Which driver a configuration means."""

import os
from collections.abc import Callable
from functools import partial
from typing import Literal

from upright.agents.replay import row_size
from upright.errors import UprightError
from upright.evaluation.episodes import Episodes, start_seeds
from upright.spec import Spec
from upright.tasks import NAMES, bridge, make_task
from upright.training.config import Config
from upright.training.fleet import Driver
from upright.training.fused import Fused
from upright.training.fused_crew import FusedDriver
from upright.training.session import CHUNK
from upright.training.stepwise import Stepwise

# Apart from those of the judgement and from those of the episodes that are learned from.
_EVALUATION_SEED = 2025


def make_driver(config: Config, render: Literal["human"] | None = None) -> Driver:
    """Raises UprightError if there is no such task, or it is not for this agent."""
    if config.driver == "fused":
        task = make_task(config.task)
        _check_memory(config, task.spec)
        return FusedDriver(Fused(task, config.agent, CHUNK, config.evaluation_episodes))
    native, make = find_task(config.task)
    env = make()
    spec = native or bridge.read_spec(env, config.task)
    env.close()
    _check_memory(config, spec)
    if render and render not in env.metadata.get("render_modes", []):
        raise UprightError(f"task {config.task!r} has no window to show (render mode {render!r})")
    starts = start_seeds(_EVALUATION_SEED, config.evaluation_episodes)
    return Stepwise(
        spec=spec,
        agent=config.agent,
        chunk=CHUNK,
        make_env=lambda seed: (
            make(render_mode=render) if render and seed == config.seeds[0] else make()
        ),
        evaluation=lambda: Episodes(make, starts),
        inline=render is not None,
    )


def find_task(task: str) -> tuple[Spec | None, Callable[..., bridge.Flat]]:
    """What we know of a native task, and what makes Gymnasium's environment of any."""
    native = make_task(task).spec if task in NAMES else None
    return native, partial(bridge.make_env, task, native.action if native else None)


def _check_memory(config: Config, spec: Spec) -> None:
    """Raises UprightError where the replays cannot fit: the system would end us without a word."""
    numbers = row_size(spec.observation_size)
    needed = 4 * numbers * config.agent.replay_size * len(config.seeds)  # bytes
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise UprightError(
            f"not enough memory: {len(config.seeds)} replays of {config.agent.replay_size}"
            f" transitions need {needed / 2**30:.1f} GiB, this machine has {there / 2**30:.1f};"
            " a smaller --agent.replay-size or fewer --seeds"
        )
