"""Greedy episodes of a native task, compiled: what training keeps its best policies by."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from upright.evaluation import MOST_STEPS
from upright.tasks.task import Task

Act = Callable[[Float[Array, "E O"]], Array]  # indices [E] of a Choice, else vectors [E U]


def play(
    task: Task, act: Act, keys: Key[Array, " E"], max_steps: int | None = None
) -> tuple[Float[Array, " E"], Int[Array, " E"]]:
    """Undiscounted return and length of one episode from the start state of each of the E keys.

    An episode is cut off after `max_steps`, or else the task's time limit, or else `MOST_STEPS`.
    """
    most = max_steps or task.spec.episode_steps or MOST_STEPS

    def step(rollouts: _Rollouts) -> _Rollouts:
        actions = act(jax.vmap(task.observe)(rollouts.states))
        inputs = task.spec.action.physical(actions)
        states, timestep = jax.vmap(task.step)(rollouts.states, inputs)
        going_on = rollouts.going_on & ~(timestep.terminated | timestep.truncated)
        total = rollouts.total + jnp.where(rollouts.going_on, timestep.reward, 0)
        lengths = rollouts.lengths + rollouts.going_on
        return _Rollouts(states, going_on, total, lengths, rollouts.steps + 1)

    start = _Rollouts(
        states=jax.vmap(task.reset)(keys),
        going_on=jnp.ones(len(keys), bool),
        total=jnp.zeros(len(keys)),
        lengths=jnp.zeros(len(keys), jnp.int32),
        steps=jnp.zeros((), jnp.int32),
    )

    def unfinished(rollouts: _Rollouts) -> Bool[Array, ""]:
        return rollouts.going_on.any() & (rollouts.steps < most)

    end = jax.lax.while_loop(unfinished, step, start)
    return end.total, end.lengths


class _Rollouts(NamedTuple):
    states: Any
    going_on: Bool[Array, " E"]
    total: Float[Array, " E"]
    lengths: Int[Array, " E"]
    steps: Int[Array, ""]
