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
from jaxtyping import Array, Float, Int, UInt32

from upright.agents.agent import Agent
from upright.memory.memory import Memory
from upright.memory.transition import Row
from upright.runners import jit, randomness
from upright.runners.packing import Packed, Packing, one_array
from upright.spec import Spec


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
    ) -> Float[Array, " told"]:
        """The actions of episodes that did not follow from a tick."""
        run = jax.random.wrap_key_data(key)
        tick = steps // self.agent.environments
        noise = randomness.draw(self.agent, self.memory, self.spec, run, tick).agent
        nothing = jnp.zeros(len(self.agent.Metrics._fields))
        return self._select(self.state.unpack(packed), present, noise, steps, nothing)

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
        told = self._select(state, frame.present, noise, steps, metrics)
        return self.state.pack(state), told

    def _select(
        self,
        state: Any,
        present: Float[Array, "E O"],
        noise: Any,
        steps: Int[Array, ""],
        metrics: Float[Array, " M"],
    ) -> Float[Array, " told"]:
        outputs = self.agent.outputs(state, present)
        action, extras = self.agent.select(outputs, noise, steps)
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
        )
        return Row.of(Frame(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)))


class Programs(NamedTuple):
    """Compiled for a number of seeds S; every argument and result leads with it."""

    init: Callable[..., Any]
    draw: Callable[..., Any]
    act: Callable[..., Any]
    wait: Callable[..., Any]
    learn: Callable[..., Any]


def compile_for(seed: Seed, counts: Sequence[int]) -> dict[int, Programs]:
    """The programs for each number of seeds, compiled at the same time."""
    counts = sorted(set(counts))
    lowered = [program for count in counts for program in _lower(seed, count)]
    compiled = jit.compile_all(lowered)
    size = len(Programs._fields)
    return {count: Programs(*compiled[i * size : (i + 1) * size]) for i, count in enumerate(counts)}


def _lower(seed: Seed, count: int) -> list[Any]:
    def shape(*sizes: int) -> Any:
        return jax.ShapeDtypeStruct((count, *sizes), jnp.float32)

    seeds, ticks = (jax.ShapeDtypeStruct((count,), kind) for kind in (jnp.uint32, jnp.int32))
    init, draw = jax.vmap(seed.init), jax.vmap(seed.draw)
    packed, keys = jax.eval_shape(init, seeds)
    present = shape(seed.agent.environments, seed.spec.observation_size)
    frame = shape(seed.frame.width)
    sampled = jax.eval_shape(
        lambda: seed.memory.sample(seed.memory.init(), seed.memory.draw(jax.random.key(0)))
    )
    sampled = jax.tree.map(lambda leaf: shape(*leaf.shape), sampled)
    return [
        jax.jit(init).lower(seeds),
        jax.jit(draw).lower(keys, ticks),
        jax.jit(_over(seed.act)).lower(packed, keys, present, ticks),
        jax.jit(_over(seed.wait), donate_argnums=0).lower(packed, frame),
        jax.jit(_over(seed.learn), donate_argnums=0).lower(packed, frame, sampled),
    ]


def _over(function: Callable[..., Any]) -> Callable[..., Any]:
    """One seed after the other in one program: as each alone, bit for bit, unlike vmap."""
    return lambda *arguments: jax.lax.map(lambda one: function(*one), arguments)
