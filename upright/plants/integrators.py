"""One step of xdot = f(x, u, p) with the inputs held constant over the sampling time dt [s]."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

Dynamics = Callable[..., Float[Array, " X"]]  # (x, u, p) -> xdot
Vector = Float[Array, " X"]
Inputs = Float[Array, " U"]


def euler(dynamics: Dynamics, x: Vector, u: Inputs, p: Any, dt: float) -> Vector:
    """Explicit Euler, order 1: x + dt f(x, u, p). What Gymnasium's CartPole uses."""
    return x + dt * dynamics(x, u, p)


def semi_implicit_euler(
    dynamics: Dynamics, x: Vector, u: Inputs, p: Any, dt: float, speed_limit: float
) -> Vector:
    """Euler, order 1, for one coordinate: x = (position, velocity), the new velocity moves it.

    The velocity saturates at +-`speed_limit`. What Gymnasium's MountainCar and Pendulum use.
    """
    position, velocity = x
    velocity = jnp.clip(velocity + dt * dynamics(x, u, p)[1], -speed_limit, speed_limit)
    return jnp.stack([position + dt * velocity, velocity])


def rk4(dynamics: Dynamics, x: Vector, u: Inputs, p: Any, dt: float) -> Vector:
    """The classic Runge-Kutta method, order 4. What Gymnasium's Acrobot uses."""
    k1 = dynamics(x, u, p)
    k2 = dynamics(x + dt / 2 * k1, u, p)
    k3 = dynamics(x + dt / 2 * k2, u, p)
    k4 = dynamics(x + dt * k3, u, p)
    return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
