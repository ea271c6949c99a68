"""Greedy episodes of a native task, compiled: what training keeps its best policies by."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from upright.tasks.task import Task

Act = Callable[[Float[Array, "E O"]], Int[Array, " E"]]


def returns(task: Task, act: Act, keys: PRNGKeyArray) -> Float[Array, " E"]:
    """Undiscounted return of one episode from the start state of each of the E keys."""

    def unfinished(carry):
        _, alive, _ = carry
        return alive.any()

    def step(carry):
        states, alive, total = carry
        actions = act(jax.vmap(task.observe)(states))
        states, timestep = jax.vmap(task.step)(states, actions)
        total += jnp.where(alive, timestep.reward, 0)
        alive &= ~(timestep.terminated | timestep.truncated)
        return states, alive, total

    states = jax.vmap(task.reset)(keys)
    carry = states, jnp.ones(len(keys), bool), jnp.zeros(len(keys))
    _, _, total = jax.lax.while_loop(unfinished, step, carry)
    return total
