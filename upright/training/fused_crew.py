"""The seed axis of the fused driver.

On a CPU each seed is a crew of its own, and all run the same compiled program, so that the bits of
a seed cannot depend on which others run, nor on how many cores there are; JAX releases Python's
lock while it computes. On an accelerator all seeds are one crew and one program, by vmap.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from upright.agents import replay
from upright.agents.replay import Replay
from upright.spec import Spec
from upright.training.engine import compiler_options
from upright.training.fleet import Crew, Order, Pulse, Result, States
from upright.training.fused import Carry, Fused


@dataclass(frozen=True)
class FusedDriver:
    """Environment, replay, learning and acting in one compiled loop: for native tasks."""

    fused: Fused
    vectorise: bool | None = None  # all seeds in one program; None: on an accelerator
    inline: bool = False

    @property
    def spec(self) -> Spec:
        return self.fused.task.spec

    def crews(self, seeds: Sequence[int], states: States | None, pulse: Pulse) -> list[Crew]:
        """They call `pulse` after each order: that takes a tenth of a second."""
        vectorise = self.vectorise
        if vectorise is None:
            vectorise = jax.default_backend() != "cpu"
        groups = [tuple(seeds)] if vectorise else [(seed,) for seed in seeds]
        programs = _compile(self.fused, len(groups[0]), jax.vmap if vectorise else _over_one_seed)
        return [
            FusedCrew(programs, group, self._restore(group, states) if states else None, pulse)
            for group in groups
        ]

    def template(self) -> Carry:
        carry = jax.eval_shape(self.fused.init, jax.random.key(0))
        carry = carry._replace(key=jax.eval_shape(jax.random.key_data, carry.key))
        empty = carry.replay._replace(
            rows=carry.replay.rows.update(shape=(0, *carry.replay.rows.shape[1:]))
        )
        return jax.tree.map(
            lambda leaf: np.zeros(leaf.shape, leaf.dtype), carry._replace(replay=empty)
        )

    def _restore(self, seeds: Sequence[int], states: States) -> Carry:
        capacity = self.fused.agent.replay_size
        carries = [
            states[seed]._replace(replay=replay.restored(states[seed].replay, capacity))
            for seed in seeds
        ]
        carry = jax.tree.map(lambda *leaves: jnp.stack(leaves), *carries)
        return carry._replace(key=jax.random.wrap_key_data(carry.key))


class _Programs(NamedTuple):
    """Compiled once for all seeds and chunks."""

    init: Callable[..., Any]
    advance: Callable[..., Any]
    evaluate: Callable[..., Any]


class FusedCrew:
    """One seed, or all of them on an accelerator."""

    def __init__(
        self,
        programs: _Programs,
        seeds: tuple[int, ...],
        carry: Carry | None,
        pulse: Pulse,
    ):
        self.seeds = seeds
        self.strays: list[int] = []  # a native task always does the same again
        self._programs = programs
        self._carry = carry
        self._pulse = pulse

    def work(self, orders: Mapping[int, Order]) -> list[Result]:
        steps = [orders[seed].steps if seed in orders else 0 for seed in self.seeds]
        episodes = max(order.episodes for order in orders.values())
        carry, taken, log = self._programs.advance(
            self._begun(), np.array(steps, np.int32), np.int32(episodes)
        )
        self._carry = carry
        due = any(order.evaluate for order in orders.values())
        returns = np.asarray(self._programs.evaluate(carry.agent)) if due else None
        # Copies, since the carry is donated to the next chunk.
        agent = jax.tree.map(np.array, carry.agent)
        log, taken, healthy = np.asarray(log), np.asarray(taken), np.asarray(carry.healthy)
        self._pulse(int(taken.sum()))
        whole = taken == steps  # else the budget of episodes ended the order, or the loss
        return [
            Result(
                seed=seed,
                log=log[i, : taken[i]],
                healthy=bool(healthy[i]),
                agent=jax.tree.map(operator.itemgetter(i), agent),
                returns=(
                    returns[i]
                    if returns is not None and orders[seed].evaluate and whole[i]
                    else None
                ),
            )
            for i, seed in enumerate(self.seeds)
            if seed in orders
        ]

    def states(self) -> dict[int, Carry]:
        carry = self._begun()
        carry = jax.tree.map(np.asarray, carry._replace(key=jax.random.key_data(carry.key)))
        states: dict[int, Carry] = {}
        for i, seed in enumerate(self.seeds):
            state = jax.tree.map(lambda leaf, i=i: np.array(leaf[i]), carry._replace(replay=()))
            memory = replay.stored(Replay(carry.replay.rows[i], carry.replay.added[i]))
            states[seed] = state._replace(replay=memory)
        return states

    def close(self) -> None:
        """There is nothing to close."""

    def _begun(self) -> Carry:
        if self._carry is None:
            carry = self._programs.init(np.array(self.seeds, np.uint32))
            # Where JAX was used before us it computes in another thread, and if the memory does
            # not suffice there, NumPy would wait for ever.
            self._carry = jax.block_until_ready(carry)
        return self._carry


def _compile(fused: Fused, seeds: int, over_seeds: Callable[..., Any]) -> _Programs:
    """The programs for so many seeds in one, compiled at the same time."""
    some = jax.ShapeDtypeStruct((seeds,), jnp.uint32)
    counts, count = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((seeds,), ()))
    init = over_seeds(lambda seed: fused.init(jax.random.key(seed)))
    carry = jax.eval_shape(init, some)
    lowered = [
        jax.jit(init).lower(some),
        jax.jit(over_seeds(fused.advance, (0, 0, None)), donate_argnums=0).lower(
            carry, counts, count
        ),
        jax.jit(over_seeds(fused.evaluate)).lower(carry.agent),
    ]
    with ThreadPoolExecutor() as pool:
        return _Programs(*pool.map(lambda program: program.compile(compiler_options()), lowered))


def _over_one_seed(function: Callable[..., Any], in_axes: Any = 0) -> Callable[..., Any]:
    """As vmap, for an axis of size 1, without the batched operations that vmap would make of it."""

    def over_one_seed(*arguments: Any) -> Any:
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(arguments)
        single = (
            argument if axis is None else jax.tree.map(lambda x: x[0], argument)
            for argument, axis in zip(arguments, axes, strict=True)
        )
        return jax.tree.map(lambda x: x[None], function(*single))

    return over_one_seed
