"""Measured scaling: running mean and variance of observations.

Source: B. P. Welford, "Note on a method for calculating corrected sums of squares and products",
Technometrics 4 (1962).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_SMALLEST = 1e-6  # standard deviation below which a channel counts as constant [its unit]


class Moments(NamedTuple):
    """Of all observations so far."""

    measured: Float[Array, " O"]  # 1 for a channel whose scaling follows from these, else 0
    observed: Int[Array, ""]
    mean: Float[Array, " O"]
    squares: Float[Array, " O"]  # sum of squared deviations from the mean

    @staticmethod
    def init(measured: Sequence[bool]) -> "Moments":
        """Of no observation yet."""
        return Moments(
            measured=jnp.array(measured, jnp.float32),
            observed=jnp.zeros((), jnp.int32),
            # Two arrays, since each is updated in place.
            mean=jnp.zeros(len(measured)),
            squares=jnp.zeros(len(measured)),
        )

    def add(self, observation: Float[Array, " O"]) -> "Moments":
        """With one observation more."""
        count = self.observed + 1
        deviation = observation - self.mean
        mean = self.mean + deviation / count
        squares = self.squares + deviation * (observation - mean)
        return Moments(self.measured, count, mean, squares)

    def scaling(
        self, offset: Float[Array, " O"], scale: Float[Array, " O"]
    ) -> tuple[Float[Array, " O"], Float[Array, " O"]]:
        """Mean and standard deviation where measured, else what is given; a constant keeps 1."""
        deviation = jnp.sqrt(self.squares / self.observed)
        deviation = jnp.where(deviation > _SMALLEST, deviation, 1.0)
        return (
            jnp.where(self.measured > 0, self.mean, offset),
            jnp.where(self.measured > 0, deviation, scale),
        )
