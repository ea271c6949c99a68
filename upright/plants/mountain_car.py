"""A car in a valley, too weak to drive straight up: the mountain car.

Source: A. W. Moore, "Efficient memory-based learning for robot control" (1990), chapter 4, in the
form of Gymnasium, which counts time in steps; so the units are m and steps.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from upright.parameters import Parameters, parameter


@dataclass(frozen=True)
class MountainCar(Parameters):
    """The valley's height is sin(3 x); what pulls the car is its slope."""

    # acceleration on a slope of 1
    gravity: float = parameter(0.0025, at_least=0, unit="m/step^2")


def dynamics(x: Float[Array, " 2"], u: Float[Array, " 1"], p: MountainCar) -> Float[Array, " 2"]:
    """Derivative of x = (position [m], velocity [m/step]); u[0] is the motor's part [m/step^2]."""
    position, velocity = x
    return jnp.stack([velocity, u[0] - p.gravity * jnp.cos(3 * position)])
