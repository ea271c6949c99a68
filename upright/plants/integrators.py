"""One step of xdot = f(x, u, p) with the input held constant over the sampling time."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float

Dynamics = Callable[..., Float[Array, " X"]]  # (x, u, p) -> xdot


def euler(
    dynamics: Dynamics, x: Float[Array, " X"], u: Float[Array, ""], p: Any, dt: float
) -> Float[Array, " X"]:
    """Explicit Euler, order 1: x + dt f(x, u, p), dt in [s]. What Gymnasium's CartPole uses."""
    return x + dt * dynamics(x, u, p)
