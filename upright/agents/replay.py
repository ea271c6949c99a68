"""Uniform replay: a ring of transitions, in a compiled program or on the host."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped, UInt32


class Transition(NamedTuple):
    """One step of one environment; a batch of them has a leading axis B."""

    observation: Float[Array, "*B O"]
    action: Int[Array, "*B"]
    reward: Float[Array, "*B"]
    discount: Float[Array, "*B"]  # 0 where the task terminated, 1 elsewhere, a time limit included
    next_observation: Float[Array, "*B O"]  # the true one, never the one after a reset


class Replay(NamedTuple):
    """A transition is one packed row, so that adding is one write and sampling is one gather."""

    rows: Float[Array, "N row"]
    added: Int[Array, ""]  # ever; the ring holds the last N of them


def row_size(observation_size: int) -> int:
    """Numbers of a packed transition."""
    return 2 * observation_size + 3


def init(capacity: int, observation_size: int) -> Replay:
    """Empty."""
    return Replay(jnp.zeros((capacity, row_size(observation_size))), jnp.zeros((), jnp.int32))


def add(replay: Replay, transition: Transition) -> Replay:
    """Overwrites the oldest transition when the ring is full."""
    o, action, reward, discount, next_o = transition
    row = jnp.concatenate([o, next_o, jnp.stack([action.astype(o.dtype), reward, discount])])
    slot = replay.added % len(replay.rows)
    return Replay(replay.rows.at[slot].set(row, mode="promise_in_bounds"), replay.added + 1)


def sample(replay: Replay, bits: UInt32[Array, " B"]) -> Transition:
    """Transitions drawn with replacement, each with the same chance.

    `bits` are random; bits modulo the number of transitions n prefers none by more than n / 2^32.
    """
    held = jnp.minimum(replay.added, len(replay.rows))
    slots = jax.lax.rem(bits, held.astype(jnp.uint32)).astype(jnp.int32)
    return unpack(replay.rows.at[slots].get(mode="promise_in_bounds"))


def unpack(rows: Float[Array, "B row"]) -> Transition:
    """Transitions from their packed rows."""
    size = (rows.shape[-1] - 3) // 2
    action, reward, discount = jnp.unstack(rows[:, 2 * size :], axis=-1)
    return Transition(
        observation=rows[:, :size],
        action=action.astype(jnp.int32),
        reward=reward,
        discount=discount,
        next_observation=rows[:, size : 2 * size],
    )


def stored(replay: Replay) -> Replay:
    """Without the rows that nothing was written to: for a file."""
    return replay._replace(rows=replay.rows[: int(replay.added)])


def restored(replay: Replay, capacity: int) -> Replay:
    """The inverse of `stored`."""
    rows = jnp.zeros((capacity, replay.rows.shape[1]))
    return replay._replace(rows=rows.at[: len(replay.rows)].set(replay.rows))


class HostReplay:
    """The replays of S seeds that go on in step, in NumPy.

    A compiled program that is called for every step would copy a replay that it was given.
    """

    def __init__(self, seeds: int, capacity: int, observation_size: int):
        self._rows = np.zeros((seeds, capacity, row_size(observation_size)), np.float32)
        self._lanes = np.arange(seeds)[:, None, None]
        self.added = 0  # ever, to each

    def add(
        self,
        observation: Float[np.ndarray, "S O"],
        action: Int[np.ndarray, " S"],
        reward: Float[np.ndarray, " S"],
        discount: Shaped[np.ndarray, " S"],
        next_observation: Float[np.ndarray, "S O"],
    ) -> None:
        """One transition for each seed, as `add` does."""
        size = observation.shape[-1]
        row = self._rows[:, self.added % self._rows.shape[1]]
        row[:, :size] = observation
        row[:, size : 2 * size] = next_observation
        row[:, 2 * size :] = np.stack([action, reward, discount], axis=-1)
        self.added += 1

    def sample(self, bits: UInt32[np.ndarray, "S G B"]) -> Float[np.ndarray, "S G B row"]:
        """Packed rows, drawn as `sample` does."""
        held = np.uint32(min(self.added, self._rows.shape[1]))
        return self._rows[self._lanes, bits % held]

    def stored(self, seed: int) -> Replay:
        """Of the seed at this place, as `stored`."""
        rows: Any = self._rows[seed, : self.added].copy()
        added: Any = np.array(self.added, np.int32)
        return Replay(rows, added)

    def restore(self, seed: int, replay: Replay) -> None:
        """The inverse of `stored`; `added` must be the same for all."""
        self._rows[seed, : len(replay.rows)] = replay.rows
        self.added = int(replay.added)
