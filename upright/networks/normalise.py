"""Measured scaling: running mean and variance of observations.

Source: T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm for
computing sample variances", COMPSTAT (1982), equation (2.1).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_MOST = 1_000_000  # observations; beyond it the older ones slowly fade
_SMALLEST = 1e-6  # standard deviation below which a channel counts as constant [its unit]


class Moments(NamedTuple):
    """Of all observations so far."""

    measured: Float[Array, " O"]  # 1 for a channel whose scaling follows from these, else 0
    observed: Int[Array, ""]
    mean: Float[Array, " O"]
    variance: Float[Array, " O"]

    @staticmethod
    def init(measured: Sequence[bool]) -> "Moments":
        """Before the first observation; `measured` says which channels are scaled by it."""
        return Moments(
            measured=jnp.array(measured, jnp.float32),
            observed=jnp.zeros((), jnp.int32),
            # Two arrays, since each is updated in place.
            mean=jnp.zeros(len(measured)),
            variance=jnp.zeros(len(measured)),
        )

    def add(self, observations: Float[Array, "E O"]) -> "Moments":
        """With these observations as well."""
        count = len(observations)
        observed = self.observed + count
        # Single precision would not notice the share of one observation among many more.
        share = count / jnp.minimum(observed, _MOST)
        center, spread = observations.mean(axis=0), observations.var(axis=0)
        deviation = center - self.mean
        mean = self.mean + share * deviation
        between = deviation * (center - mean)
        variance = self.variance + share * (spread + between - self.variance)
        return Moments(self.measured, observed, mean, variance)

    def scaling(
        self, offset: Float[Array, " O"], scale: Float[Array, " O"]
    ) -> tuple[Float[Array, " O"], Float[Array, " O"]]:
        """Mean and standard deviation where measured, else what is given; a constant keeps 1."""
        deviation = jnp.sqrt(self.variance)
        usable = (deviation > _SMALLEST) & jnp.isfinite(deviation)
        deviation = jnp.where(usable, deviation, 1.0)
        return (
            jnp.where((self.measured > 0) & jnp.isfinite(self.mean), self.mean, offset),
            jnp.where(self.measured > 0, deviation, scale),
        )
