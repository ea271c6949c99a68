"""Uniform replay: a ring of transitions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32


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


def init(capacity: int, observation_size: int) -> Replay:
    """Empty."""
    return Replay(jnp.zeros((capacity, 2 * observation_size + 3)), jnp.zeros((), jnp.int32))


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
