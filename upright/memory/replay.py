"""Uniform replay: a ring of transitions."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from upright.memory.transition import Row, Transition


class Ring(NamedTuple):
    """A transition is one row, so that adding is one write and sampling is one gather."""

    rows: Float[Array, "N row"]
    added: Int[Array, ""]  # ever; the ring holds the last N of them


@dataclass(frozen=True)
class Replay:
    """Keeps the newest transitions; each is drawn with the same chance, with replacement."""

    row: Row
    environments: int  # E, transitions of one tick
    capacity: int  # transitions; a multiple of E, so that no tick wraps around
    batches: int  # G, drawn at a time
    batch_size: int  # B, transitions of each
    learning_starts: int  # transitions before the first learning
    forgets: ClassVar[bool] = False

    @staticmethod
    def of(
        like: Transition, capacity: int, batches: int, batch_size: int, learning_starts: int
    ) -> "Replay":
        """For transitions of this shape; `capacity` is rounded up to whole ticks."""
        environments = like.reward.shape[0]
        capacity = -(-capacity // environments) * environments
        row = Row.of(like)
        return Replay(row, environments, capacity, batches, batch_size, learning_starts)

    def init(self) -> Ring:
        return Ring(jnp.zeros((self.capacity, self.row.width)), jnp.zeros((), jnp.int32))

    def add(self, content: Ring, transition: Transition) -> Ring:
        """Overwrites the oldest transitions when the ring is full."""
        slot = content.added % self.capacity
        rows = jax.lax.dynamic_update_slice(
            content.rows, self.row.pack(transition), (slot, jnp.zeros_like(slot))
        )
        return Ring(rows, content.added + self.environments)

    def due(self, added: Any) -> Any:
        return added > self.learning_starts

    def draw(self, key: PRNGKeyArray) -> UInt32[Array, "G B"]:
        return jax.random.bits(key, (self.batches, self.batch_size))

    def sample(self, content: Ring, randomness: UInt32[Array, "G B"]) -> Float[Array, "G B row"]:
        """Random bits modulo the number of transitions n prefer none by more than n / 2^32."""
        held = jnp.minimum(content.added, self.capacity)
        slots = jax.lax.rem(randomness, held.astype(jnp.uint32)).astype(jnp.int32)
        return content.rows.at[slots].get(mode="promise_in_bounds")

    def unpack(self, sampled: Float[Array, "G B row"]) -> Transition:
        return self.row.unpack(sampled)

    def stored(self, content: Ring) -> Ring:
        held = min(int(content.added), self.capacity)
        rows: Any = np.array(content.rows[:held])
        added: Any = np.array(content.added)
        return Ring(rows, added)

    def restored(self, stored: Ring) -> Ring:
        rows = np.zeros((self.capacity, self.row.width), np.float32)
        rows[: len(stored.rows)] = stored.rows
        return Ring(jnp.array(rows), jnp.array(stored.added))

    def check(self, stored: Ring, added: int) -> None:
        shape = (min(added, self.capacity), self.row.width)
        if int(stored.added) != added or stored.rows.shape != shape:
            raise ValueError(f"{stored.rows.shape} transitions kept of {int(stored.added)}")

    def on_host(self, seeds: int) -> "HostReplay":
        return HostReplay(self, seeds)


class HostReplay:
    """The rings of S seeds, in NumPy."""

    def __init__(self, replay: Replay, seeds: int):
        self._rows = np.zeros((seeds, replay.capacity, replay.row.width), np.float32)
        self._all = self._rows.reshape(-1, replay.row.width)
        self._first = replay.capacity * np.arange(seeds)[:, None, None]  # row of each seed
        self.added = 0  # ever, to each

    def add(self, rows: Float[np.ndarray, "S E row"]) -> None:
        slot = self.added % self._rows.shape[1]
        self._rows[:, slot : slot + rows.shape[1]] = rows
        self.added += rows.shape[1]

    def sample(
        self, randomness: UInt32[np.ndarray, "S T G B"], tick: int
    ) -> Float[np.ndarray, "S G B row"]:
        held = np.uint32(min(self.added, self._rows.shape[1]))
        # Several times as fast as an index of two arrays.
        return self._all.take(self._first + randomness[:, tick] % held, axis=0)

    def stored(self, seed: int) -> Ring:
        rows: Any = self._rows[seed, : self.added].copy()
        added: Any = np.array(self.added, np.int32)
        return Ring(rows, added)

    def restore(self, seed: int, stored: Ring) -> None:
        """`added` must be the same for all."""
        self._rows[seed, : len(stored.rows)] = stored.rows
        self.added = int(stored.added)
