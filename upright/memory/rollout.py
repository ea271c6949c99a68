"""A rollout: some ticks of all environments, learned from once and then forgotten."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from upright.memory.transition import Row, Transition


class Ticks(NamedTuple):
    """The rollout under way."""

    rows: Float[Array, "T E row"]
    added: Int[Array, ""]  # transitions ever


@dataclass(frozen=True)
class Rollout:
    """Learning is due after every T ticks, from all of them in their order."""

    row: Row
    environments: int  # E
    ticks: int  # T
    forgets: ClassVar[bool] = True

    @staticmethod
    def of(like: Transition, ticks: int) -> "Rollout":
        """For transitions of this shape."""
        return Rollout(Row.of(like), like.reward.shape[0], ticks)

    def init(self) -> Ticks:
        shape = (self.ticks, self.environments, self.row.width)
        return Ticks(jnp.zeros(shape), jnp.zeros((), jnp.int32))

    def add(self, content: Ticks, transition: Transition) -> Ticks:
        tick = content.added // self.environments % self.ticks
        rows = content.rows.at[tick].set(self.row.pack(transition), mode="promise_in_bounds")
        return Ticks(rows, content.added + self.environments)

    def due(self, added: Any) -> Any:
        return added % (self.ticks * self.environments) == 0

    def draw(self, key: PRNGKeyArray) -> tuple[()]:
        """Nothing: all of it is learned from."""
        del key
        return ()

    def sample(self, content: Ticks, randomness: tuple[()]) -> Float[Array, "T E row"]:
        del randomness
        return content.rows

    def unpack(self, sampled: Float[Array, "T E row"]) -> Transition:
        return self.row.unpack(sampled)

    def stored(self, content: Ticks) -> Ticks:
        return jax.tree.map(np.array, content)

    def restored(self, stored: Ticks) -> Ticks:
        return jax.tree.map(jnp.array, stored)

    def check(self, stored: Ticks, added: int) -> None:
        shape = (self.ticks, self.environments, self.row.width)
        if int(stored.added) != added or stored.rows.shape != shape:
            raise ValueError(f"{stored.rows.shape} transitions kept of {int(stored.added)}")

    def on_host(self, seeds: int) -> "HostRollout":
        return HostRollout(self, seeds)


class HostRollout:
    """The rollouts of S seeds, in NumPy."""

    def __init__(self, rollout: Rollout, seeds: int):
        shape = (seeds, rollout.ticks, rollout.environments, rollout.row.width)
        self._rows = np.zeros(shape, np.float32)
        self.added = 0  # ever, to each

    def add(self, rows: Float[np.ndarray, "S E row"]) -> None:
        environments = rows.shape[1]
        self._rows[:, self.added // environments % self._rows.shape[1]] = rows
        self.added += environments

    def sample(self, randomness: tuple[()], tick: int) -> Float[np.ndarray, "S T E row"]:
        del randomness, tick
        return self._rows

    def stored(self, seed: int) -> Ticks:
        rows: Any = self._rows[seed].copy()
        added: Any = np.array(self.added, np.int32)
        return Ticks(rows, added)

    def restore(self, seed: int, stored: Ticks) -> None:
        """`added` must be the same for all."""
        self._rows[seed] = stored.rows
        self.added = int(stored.added)
