"""A pole on a cart, hinged without friction: the inverted pendulum.

Source: R. V. Florian, "Correct equations for the dynamics of the cart-pole system" (2007),
equations (23) and (24), without friction; the state is that of Barto, Sutton and Anderson (1983).
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from upright.parameters import Parameters, parameter


@dataclass(frozen=True)
class CartPole(Parameters):
    """What one would measure; whatever follows from it (total mass, moments) is computed."""

    gravity: float = parameter(9.8, at_least=0, unit="m/s^2")
    cart_mass: float = parameter(1.0, above=0, unit="kg")
    pole_mass: float = parameter(0.1, above=0, unit="kg")
    # from the hinge to the pole's centre of mass
    half_length: float = parameter(0.5, above=0, unit="m")


def dynamics(x: Float[Array, " 4"], u: Float[Array, " 1"], p: CartPole) -> Float[Array, " 4"]:
    """Derivative of x = (position [m], velocity [m/s], angle [rad], angular velocity [rad/s]).

    The angle is zero upright, positive towards positive positions; u[0] is the force on the cart
    [N].
    """
    _, velocity, angle, angular_velocity = x
    force = u[0]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    total_mass = p.cart_mass + p.pole_mass
    pole_moment = p.pole_mass * p.half_length
    push = (force + pole_moment * angular_velocity**2 * sin) / total_mass
    angular_acceleration = (p.gravity * sin - cos * push) / (
        p.half_length * (4 / 3 - p.pole_mass * cos**2 / total_mass)
    )
    acceleration = push - pole_moment * angular_acceleration * cos / total_mass
    return jnp.stack([velocity, acceleration, angular_velocity, angular_acceleration])
