"""Whether a training fits into the memory of the machine, before any of it is allocated.

The system would end us without a word.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from upright.agents.agent import Agent
from upright.calling import agent_settings, option
from upright.errors import UprightError
from upright.machine import memory
from upright.runners import randomness
from upright.spec import Spec


def check_fit(agent: Agent, spec: Spec, seeds: int = 1, ticks: int = 1, evaluated: int = 1) -> Any:
    """Raises UprightError where the agent cannot learn the task, or would not fit.

    `ticks`: whose random numbers are drawn at once. `evaluated`: episodes played side by side.
    Gives what the agent's state looks like: shapes and types.
    """
    agent.fits(spec)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(lambda key: agent.init(key, spec), key)
    memory = agent.memory(randomness.transition_like(agent, spec))
    content = jax.eval_shape(memory.init)
    tick = jax.ShapeDtypeStruct((), jnp.int32)
    drawn = jax.eval_shape(partial(randomness.draw, agent, memory, spec), key, tick)
    sampled = jax.eval_shape(memory.sample, content, drawn.memory)

    def learn(state: Any, sampled: Any, noise: Any) -> Any:
        return agent.learn(state, memory.unpack(sampled), noise)

    observations = jax.ShapeDtypeStruct((evaluated, spec.observation_size), jnp.float32)
    _compare(
        {
            "networks and optimizers": seeds * _bytes(state),
            "the experience that is kept": seeds * _bytes(content),
            "the random numbers of a segment": ticks * _bytes(drawn),
            "a step of learning": _largest(learn, state, sampled, drawn.agent),
            "an evaluation": _largest(agent.outputs, state, observations),
        }
    )
    return state


def _compare(parts: dict[str, int]) -> None:
    """Raises UprightError where parts of so many bytes are more than the machine has."""
    there = memory()
    if there and sum(parts.values()) > there:
        most = max(parts, key=lambda part: parts[part])
        raise UprightError(
            f"out of memory: {most} would take {parts[most] / 2**30:.1f} GiB, all together"
            f" {sum(parts.values()) / 2**30:.1f}; this machine has {there / 2**30:.1f}; a smaller"
            f" network or batch, less experience, fewer environments ({agent_settings()}), or fewer"
            f" {option('seeds')}"
        )


def _largest(function: Callable[..., Any], *arguments: Any) -> int:
    """Bytes of the largest array that comes up in a function: it needs at least these."""
    program = jax.make_jaxpr(function)(*arguments).jaxpr
    return max(_bytes([out.aval for out in one.outvars]) for one in _equations(program))


def _equations(program: Any) -> Iterable[Any]:
    """Of a program and of those inside of it: loops and branches."""
    for equation in program.eqns:
        yield equation
        for inner in jax.tree.leaves(tuple(equation.params.values())):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from _equations(inner)


def _bytes(tree: Any) -> int:
    """Of all arrays of a tree; a random key is of a type of JAX's own, of two words."""
    leaves: list[Any] = jax.tree.leaves(tree)
    is_key = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    sizes = [8 if key else leaf.dtype.itemsize for key, leaf in zip(is_key, leaves, strict=True)]
    return sum(leaf.size * size for leaf, size in zip(leaves, sizes, strict=True))
