"""Two links that hang from a hinge, with a motor in the joint between them: the acrobot.

Source: R. S. Sutton, A. G. Barto, "Reinforcement Learning: An Introduction" (1998), section 11.3.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from upright.parameters import Parameters, parameter


@dataclass(frozen=True)
class Acrobot(Parameters):
    """Two rods; the first hangs from the hinge, the second from the first."""

    gravity: float = parameter(9.8, at_least=0, unit="m/s^2")
    length_1: float = parameter(1.0, above=0, unit="m")  # of the first rod
    mass_1: float = parameter(1.0, above=0, unit="kg")
    mass_2: float = parameter(1.0, above=0, unit="kg")
    # from the hinge to the first rod's centre of mass
    center_1: float = parameter(0.5, at_least=0, unit="m")
    # from the joint to the second rod's centre of mass
    center_2: float = parameter(0.5, at_least=0, unit="m")
    inertia_1: float = parameter(1.0, above=0, unit="kg m^2")  # about its centre of mass
    inertia_2: float = parameter(1.0, above=0, unit="kg m^2")


def dynamics(x: Float[Array, " 4"], u: Float[Array, " 1"], p: Acrobot) -> Float[Array, " 4"]:
    """Derivative of x = (angle 1, angle 2 [rad], their angular velocities [rad/s]).

    Angle 1 is zero hanging down, angle 2 is relative to the first rod; u[0] is the torque of the
    motor [N m].
    """
    angle_1, angle_2, rate_1, rate_2 = x
    torque = u[0]
    sin_2, cos_2 = jnp.sin(angle_2), jnp.cos(angle_2)
    coupling = p.mass_2 * p.length_1 * p.center_2
    d1 = (
        p.mass_1 * p.center_1**2
        + p.mass_2 * (p.length_1**2 + p.center_2**2)
        + 2 * coupling * cos_2
        + p.inertia_1
        + p.inertia_2
    )
    d2 = p.mass_2 * p.center_2**2 + coupling * cos_2 + p.inertia_2
    phi2 = p.mass_2 * p.center_2 * p.gravity * jnp.sin(angle_1 + angle_2)
    phi1 = (
        -coupling * rate_2**2 * sin_2
        - 2 * coupling * rate_2 * rate_1 * sin_2
        + (p.mass_1 * p.center_1 + p.mass_2 * p.length_1) * p.gravity * jnp.sin(angle_1)
        + phi2
    )
    acceleration_2 = (torque + d2 / d1 * phi1 - coupling * rate_1**2 * sin_2 - phi2) / (
        p.mass_2 * p.center_2**2 + p.inertia_2 - d2**2 / d1
    )
    acceleration_1 = -(d2 * acceleration_2 + phi1) / d1
    return jnp.stack([rate_1, rate_2, acceleration_1, acceleration_2])
