"""What the hosted runner compiles: one call for each tick of S seeds, with few and small arguments.

A call learns from the last tick and chooses the next actions, in the same order as the compiled
runner, so the same transitions make the same agent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32
from numpy.typing import NDArray

from upright.agents.agent import Agent
from upright.memory.memory import Memory
from upright.memory.transition import Row
from upright.runners import jit, randomness
from upright.runners.packing import Packed, Packing, one_array
from upright.spec import Spec

# Seeds that go on in step in one program: more cost a lone seed time, and save others none. Less
# where the rows of a large network, or of large batches, would cost a lone seed much memory.
_MOST_SEEDS, _MOST_BYTES = 16, 1 << 26


class Told(NamedTuple):
    """What a call tells of one seed."""

    action: Any  # [E] or [E U], for the next tick
    extras: Any  # of these actions
    metrics: Any  # [M]


class Frame(NamedTuple):
    """What a call is told of a tick of one seed; in one array, since every argument costs time.

    In NumPy the members are views of that array, of S seeds.
    """

    transition: Any  # rows [E row]
    present: Any  # [E O] to act on: of new episodes, where some ended
    noise: Any  # [noise] of this tick, packed
    next_noise: Any  # [noise]
    steps: Any  # [1] of all environments, this tick included; the bits of an int32
    mask: Any = None  # [E A] of what is allowed at `present`; None: the task has no masks


@dataclass(frozen=True)
class Seed:
    """The computation of one seed; pure functions."""

    agent: Agent
    spec: Spec
    ticks: int  # whose random numbers are drawn at a time

    @cached_property
    def memory(self) -> Memory:
        """What the agent keeps of its experience of this task."""
        return self.agent.memory(self.like)

    @cached_property
    def like(self) -> Any:
        """Shapes of a transition."""
        return randomness.transition_like(self.agent, self.spec)

    @cached_property
    def row(self) -> Row:
        """How a transition is packed."""
        return Row.of(self.like)

    @cached_property
    def state(self) -> Packing:
        """How the agent's state is packed."""
        return Packing(jax.eval_shape(lambda: self.agent.init(jax.random.key(0), self.spec)))

    @cached_property
    def noise(self) -> Packing:
        """How the agent's random numbers of a tick are packed."""
        return one_array(jax.eval_shape(lambda: self.agent.draw(jax.random.key(0), self.spec)))

    @cached_property
    def told(self) -> Packing:
        """How `Told` is packed."""
        metrics = jax.ShapeDtypeStruct((len(self.agent.Metrics._fields),), jnp.float32)
        return one_array(Told(self.like.action, self.like.extras, metrics))

    def init(self, seed: UInt32[Array, ""]) -> tuple[Packed, UInt32[Array, "2"]]:
        """The agent at the beginning, and the key of the run."""
        keys = randomness.keys(jax.random.key(seed))
        state = self.agent.init(keys.agent, self.spec)
        return self.state.pack(state), jax.random.key_data(keys.run)

    def draw(
        self, key: UInt32[Array, "2"], first: Int[Array, ""]
    ) -> tuple[Any, Float[Array, "ticks1 noise"]]:
        """From tick `first` on: what the memory's sampling needs, and the agent's noise.

        The latter of one tick more, since the last one here chooses the actions of the next.
        """
        run = jax.random.wrap_key_data(key)

        def one(tick: Int[Array, ""]) -> tuple[Any, Float[Array, " noise"]]:
            drawn = randomness.draw(self.agent, self.memory, self.spec, run, tick)
            return drawn.memory, self.noise.pack(drawn.agent)[0]

        return jax.vmap(one)(first + jnp.arange(self.ticks + 1))

    def act(
        self,
        packed: Packed,
        key: UInt32[Array, "2"],
        present: Float[Array, "E O"],
        steps: Int[Array, ""],
        mask: Bool[Array, "E A"] | None,
    ) -> Float[Array, " told"]:
        """The actions of episodes that did not follow from a tick."""
        run = jax.random.wrap_key_data(key)
        tick = steps // self.agent.environments
        noise = randomness.draw(self.agent, self.memory, self.spec, run, tick).agent
        nothing = jnp.zeros(len(self.agent.Metrics._fields))
        return self._select(self.state.unpack(packed), present, mask, noise, steps, nothing)

    def wait(self, packed: Packed, frame: Float[Array, " frame"]) -> tuple[Packed, Any]:
        """A tick without learning."""
        nothing = jnp.zeros(len(self.agent.Metrics._fields))
        return self._go_on(self.state.unpack(packed), nothing, Frame(*self.frame.parts(frame)))

    def learn(
        self, packed: Packed, frame: Float[Array, " frame"], sampled: Any
    ) -> tuple[Packed, Any]:
        """A tick with learning."""
        split = Frame(*self.frame.parts(frame))
        state, metrics = self.agent.learn(
            self.state.unpack(packed),
            self.memory.unpack(sampled),
            self.noise.unpack([split.noise]),
        )
        return self._go_on(state, jnp.stack(metrics), split)

    def _go_on(
        self, state: Any, metrics: Float[Array, " M"], frame: Frame
    ) -> tuple[Packed, Float[Array, " told"]]:
        state = self.agent.count(state, self.row.unpack(frame.transition))
        noise = self.noise.unpack([frame.next_noise])
        steps = jax.lax.bitcast_convert_type(frame.steps[0], jnp.int32)
        mask = None if frame.mask is None else frame.mask > 0
        told = self._select(state, frame.present, mask, noise, steps, metrics)
        return self.state.pack(state), told

    def _select(
        self,
        state: Any,
        present: Float[Array, "E O"],
        mask: Bool[Array, "E A"] | None,
        noise: Any,
        steps: Int[Array, ""],
        metrics: Float[Array, " M"],
    ) -> Float[Array, " told"]:
        outputs = self.agent.outputs(state, present)
        action, extras = self.agent.select(outputs, noise, steps, mask)
        return self.told.pack(Told(action, extras, metrics))[0]

    @cached_property
    def frame(self) -> Row:
        """How a frame is joined to one array."""
        environments, noise = self.agent.environments, (1, self.noise.width)
        shapes = Frame(
            transition=(1, environments, self.row.width),
            present=(1, environments, self.spec.observation_size),
            noise=noise,
            next_noise=noise,
            steps=(1, 1),
            mask=(1, environments, self.spec.action_size),
        )
        some = shapes if self.spec.masked else shapes[:-1]
        return Row.of(Frame(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in some)))


class Held(NamedTuple):
    """The states of K seeds between two calls."""

    rows: Packed  # [K ...]
    spare: Packed  # [K ...] that the next call writes to


@dataclass(frozen=True)
class Programs:
    """Compiled once, for any number of seeds, so that no bit of a seed can depend on how many.

    Those of a tick go through the first S of K rows, and S is a number that they are told: XLA
    compiles an array of one row, or of three, otherwise than of two, and then rounds otherwise.
    """

    capacity: int  # K, seeds that go on in step
    init: Callable[..., Any]  # `Seed.init`
    draw: Callable[..., Any]  # `Seed.draw`
    act: Callable[..., Any]  # `Seed.act`
    _wait: Callable[..., Any]
    _learn: Callable[..., Any]

    def rows(self, values: Any) -> NDArray[Any]:
        """Arrays of S seeds as the first of K rows; what is in the others is never read."""
        first = np.asarray(values[0])
        rows = np.zeros((self.capacity, *first.shape), first.dtype)
        rows[: len(values)] = values
        return rows

    def hold(self, states: Sequence[Packed]) -> Held:
        """The packed states of S seeds, for `wait` and `learn`, which consume them."""
        rows = [jnp.array(self.rows(leaves)) for leaves in zip(*states, strict=True)]
        return Held(rows, [jnp.zeros_like(leaf) for leaf in rows])

    def wait(self, count: int, held: Held, frame: Any) -> tuple[Held, NDArray[np.float32]]:
        """`Seed.wait` of the first S = `count` seeds, and what each is told [S told]."""
        new, told = self._wait(np.int32(count), held.spare, held.rows, frame)
        return Held(new, held.rows), np.asarray(told)[:count]

    def learn(
        self, count: int, held: Held, frame: Any, sampled: Any
    ) -> tuple[Held, NDArray[np.float32]]:
        """`Seed.learn` in the same way; of `sampled` only the first S rows are there."""
        sampled = jax.tree.map(self._padded, sampled)
        new, told = self._learn(np.int32(count), held.spare, held.rows, frame, sampled)
        return Held(new, held.rows), np.asarray(told)[:count]

    def _padded(self, rows: NDArray[Any]) -> NDArray[Any]:
        if len(rows) == self.capacity:
            return rows
        padded = np.empty((self.capacity, *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        return padded


def compile_programs(seed: Seed) -> Programs:
    """The programs, compiled at the same time."""
    lead, steps = jax.ShapeDtypeStruct((), jnp.uint32), jax.ShapeDtypeStruct((), jnp.int32)
    packed, key = jax.eval_shape(seed.init, lead)
    sampled = jax.eval_shape(
        lambda: seed.memory.sample(seed.memory.init(), seed.memory.draw(jax.random.key(0)))
    )
    frame = jax.ShapeDtypeStruct((seed.frame.width,), jnp.float32)
    present = jax.ShapeDtypeStruct(
        (seed.agent.environments, seed.spec.observation_size), jnp.float32
    )
    mask = seed.like.next_mask
    told = seed.told.width
    size = sum(4 * leaf.size for leaf in jax.tree.leaves((packed, sampled)))
    capacity = max(1, min(_MOST_SEEDS, _MOST_BYTES // size))

    def rows(tree: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((capacity, *leaf.shape), leaf.dtype), tree
        )

    wait, learn = (jax.jit(_over(f, told), donate_argnums=1) for f in (seed.wait, seed.learn))
    lowered = [
        jax.jit(seed.init).lower(lead),
        jax.jit(seed.draw).lower(key, steps),
        jax.jit(seed.act).lower(packed, key, present, steps, mask),
        wait.lower(steps, *rows((packed, packed, frame))),
        learn.lower(steps, *rows((packed, packed, frame, sampled))),
    ]
    return Programs(capacity, *jit.compile_all(lowered))


def _over(function: Callable[..., Any], told: int) -> Callable[..., Any]:
    """One seed after the other: from the rows of one buffer into those of another.

    In place, XLA would copy all rows in each round, since it reads and writes the same ones.
    """

    def over(count: Any, into: Packed, packed: Packed, *arguments: Any) -> tuple[Packed, Any]:
        def one(place: Any, carry: tuple[Packed, Any]) -> tuple[Packed, Any]:
            own = jax.tree.map(
                lambda leaf: jax.lax.dynamic_index_in_dim(leaf, place, keepdims=False),
                (packed, *arguments),
            )
            return jax.tree.map(
                lambda rows, row: jax.lax.dynamic_update_index_in_dim(rows, row, place, 0),
                carry,
                function(*own),
            )

        return jax.lax.fori_loop(0, count, one, (into, jnp.zeros((len(into[0]), told))))

    return over
