"""A rod on a driven hinge: the torque pendulum.

Source: rigid-body mechanics; the moment of inertia of a rod about its end is m l^2 / 3.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from upright.parameters import Parameters, parameter


@dataclass(frozen=True)
class Pendulum(Parameters):
    """What one would measure."""

    gravity: float = parameter(10.0, at_least=0, unit="m/s^2")
    mass: float = parameter(1.0, above=0, unit="kg")
    length: float = parameter(1.0, above=0, unit="m")


def dynamics(x: Float[Array, " 2"], u: Float[Array, " 1"], p: Pendulum) -> Float[Array, " 2"]:
    """Derivative of x = (angle [rad], angular velocity [rad/s]).

    The angle is zero upright; u[0] is the torque at the hinge [N m].
    """
    angle, rate = x
    inertia = p.mass * p.length**2 / 3
    falling = p.mass * p.gravity * p.length / 2 * jnp.sin(angle)
    return jnp.stack([rate, (falling + u[0]) / inertia])
