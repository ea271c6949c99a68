"""Which runner a configuration means."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import numpy as np

from upright.agents.agent import Agent
from upright.bridge.flat import Flat, make_env
from upright.bridge.spec import read_spec
from upright.errors import UprightError
from upright.evaluation.episodes import Episodes, start_seeds
from upright.runners.compiled import Compiled
from upright.runners.compiled_seeds import CompiledRunner
from upright.runners.hosted import HostedRunner
from upright.runners.randomness import transition_like
from upright.runners.runner import Runner
from upright.spec import Spec
from upright.tasks import catalogue
from upright.training.config import ROW_STEPS, Config

# Apart from those of the final evaluation and from those of the episodes that are learned from.
_EVALUATION_SEED = 2025


def make_runner(config: Config, render: Literal["human"] | None = None) -> Runner:
    """Raises UprightError if there is no such task, or it is not for this agent."""
    agent, most_steps = config.agent, config.whole_ticks(ROW_STEPS)
    if config.runner == "compiled":
        task = config.make_task()
        check_fit(agent, task.spec, len(config.seeds))
        return CompiledRunner(Compiled(task, agent, most_steps, config.evaluation_episodes))
    native, make = find_task(config)
    env = make()
    try:
        spec = native or read_spec(env, config.task)
        check_fit(agent, spec, len(config.seeds))
        if render and render not in env.metadata.get("render_modes", []):
            raise UprightError(
                f"task {config.task!r} has no window to show (render mode {render!r})"
            )
    finally:
        env.close()
    starts = start_seeds(_EVALUATION_SEED, config.evaluation_episodes)
    return HostedRunner(
        spec=spec,
        agent=agent,
        most_steps=most_steps,
        make_env=lambda seed: (
            make(render_mode=render) if render and seed == config.seeds[0] else make()
        ),
        evaluation=lambda: Episodes(make, starts),
        inline=render is not None,
    )


def find_task(config: Config) -> tuple[Spec | None, Callable[..., Flat]]:
    """What we know of a native task, and what makes Gymnasium's environment of any."""
    native = config.make_task().spec if catalogue.is_native(config.task) else None
    name, physics = config.environment()
    action = native.action if native else None
    return native, partial(make_env, name, action, **physics)


def check_fit(agent: Agent, spec: Spec, seeds: int) -> None:
    """Raises UprightError where the agent cannot learn the task, or its memories do not fit.

    Of the latter the system would end us without a word.
    """
    agent.fits(spec)
    memory = jax.eval_shape(agent.memory(transition_like(agent, spec)).init)
    leaves: list[Any] = jax.tree.leaves(memory)
    needed = seeds * sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in leaves)
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise UprightError(
            f"out of memory: what {seeds} seeds keep of their experience takes"
            f" {needed / 2**30:.1f} GiB, this machine has {there / 2**30:.1f}; keep less of it"
            " (see --agent.* in upright train --help), or fewer --seeds"
        )
