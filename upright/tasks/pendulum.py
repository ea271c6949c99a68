"""Pendulum-v1 with a few torques to choose from: swing up and hold. Gymnasium's task, natively."""

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from upright.plants import integrators, pendulum
from upright.spec import Channel, Choice, Spec, Vector
from upright.tasks.task import State, TimeStep


@dataclass(frozen=True)
class PendulumTask:
    """The reward is minus a quadratic cost of angle, rate and torque; nothing terminates."""

    plant: pendulum.Pendulum = field(default_factory=pendulum.Pendulum)
    torques: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0, 2.0)  # to choose from [N m]
    dt: float = 0.05  # sampling time [s]
    rate_limit: float = 8.0  # the angular velocity saturates [rad/s]
    start: tuple[float, float] = (math.pi, 1.0)  # start states are uniform within +- [rad, rad/s]
    episode_steps: int = 200  # the episode is truncated after so many steps

    @property
    def spec(self) -> Spec:
        return Spec(
            task="Pendulum-v1",
            observation=Vector(
                (
                    Channel("cosine of the angle", "1"),
                    Channel("sine of the angle", "1"),
                    Channel("angular velocity", "rad/s", scale=self.rate_limit),
                )
            ),
            action=Choice("torque", "N m", self.torques),
            dt=self.dt,
            episode_steps=self.episode_steps,
        )

    def reset(self, key: PRNGKeyArray) -> State:
        limits = jnp.array(self.start)
        x = jax.random.uniform(key, (2,), minval=-limits, maxval=limits)
        return State(x, jnp.zeros((), jnp.int32))

    def observe(self, state: State) -> Float[Array, " 3"]:
        angle, rate = state.x
        return jnp.stack([jnp.cos(angle), jnp.sin(angle), rate])

    def step(self, state: State, action: Int[Array, ""]) -> tuple[State, TimeStep]:
        torque = jnp.array(self.torques, state.x.dtype)[action]
        angle, rate = state.x
        angle = (angle + math.pi) % (2 * math.pi) - math.pi
        cost = angle**2 + 0.1 * rate**2 + 0.001 * torque**2
        x = integrators.semi_implicit_euler(
            pendulum.dynamics, state.x, torque, self.plant, self.dt, self.rate_limit
        )
        state = State(x, state.steps + 1)
        never = jnp.zeros((), bool)
        truncated = state.steps >= self.episode_steps
        return state, TimeStep(self.observe(state), -cost, never, truncated)
