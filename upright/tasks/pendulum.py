"""Swing up and hold: Gymnasium's Pendulum-v1, natively.

PendulumDiscrete-v1 is the same with a few torques to choose from.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from upright.parameters import Parameters, parameter
from upright.plants import integrators, pendulum
from upright.spec import Channel, Choice, Continuous, Mirror, Spec, Vector
from upright.tasks.task import State, TimeStep

_SIGNS = (1, -1, -1)  # of the mirrored observation


@dataclass(frozen=True)
class _SwingUp(Parameters):
    """What both tasks have; each says how the torque is set."""

    original: ClassVar[str | None] = "Pendulum-v1"
    drawn_by: ClassVar[str | None] = "Pendulum-v1"

    plant: pendulum.Pendulum = field(default_factory=pendulum.Pendulum)
    dt: float = parameter(0.05, above=0, unit="s")  # sampling time
    rate_limit: float = parameter(8.0, above=0, unit="rad/s")  # the angular velocity saturates
    # start states are uniform within +- these
    start: tuple[float, float] = parameter((math.pi, 1.0), at_least=0, unit="rad, rad/s")
    episode_steps: int = 200  # the episode is truncated after so many steps

    def reset(self, key: PRNGKeyArray) -> State:
        limits = jnp.array(self.start)
        x = jax.random.uniform(key, (2,), minval=-limits, maxval=limits)
        return State(x, jnp.zeros((), jnp.int32))

    def observe(self, state: State) -> Float[Array, " 3"]:
        angle, rate = state.x
        return jnp.stack([jnp.cos(angle), jnp.sin(angle), rate])

    def mirror(self, state: State) -> State:
        return state._replace(x=-state.x)

    def step(self, state: State, action: Float[Array, " 1"]) -> tuple[State, TimeStep]:
        angle, rate = state.x
        angle = (angle + math.pi) % (2 * math.pi) - math.pi
        cost = angle**2 + 0.1 * rate**2 + 0.001 * action[0] ** 2
        x = integrators.semi_implicit_euler(
            pendulum.dynamics, state.x, action, self.plant, self.dt, self.rate_limit
        )
        state = State(x, state.steps + 1)
        never = jnp.zeros((), bool)
        truncated = state.steps >= self.episode_steps
        return state, TimeStep(self.observe(state), -cost, never, truncated)

    def _spec(self, task: str, action: Choice | Continuous, mirror: Mirror | None) -> Spec:
        limit = max(self.rate_limit, self.start[1])
        return Spec(
            task=task,
            observation=Vector(
                (
                    Channel("cosine of the angle", "1", minimum=-1.0, maximum=1.0),
                    Channel("sine of the angle", "1", minimum=-1.0, maximum=1.0),
                    Channel(
                        "angular velocity", "rad/s", self.rate_limit, minimum=-limit, maximum=limit
                    ),
                )
            ),
            action=action,
            dt=self.dt,
            episode_steps=self.episode_steps,
            mirror=mirror,
        )


@dataclass(frozen=True)
class PendulumTask(_SwingUp):
    """Pendulum-v1. The reward is minus a quadratic cost of angle, rate and torque; none terminates.

    angle^2 + 0.1 rate^2 + 0.001 torque^2, of the state before the step [rad, rad/s, N m].
    """

    torque: float = parameter(2.0, above=0, unit="N m")  # the largest, in either direction

    @property
    def spec(self) -> Spec:
        torque = Channel("torque", "N m", self.torque, minimum=-self.torque, maximum=self.torque)
        mirror = Mirror(_SIGNS, action_signs=(-1,))
        return self._spec("Pendulum-v1", Continuous((torque,)), mirror)


@dataclass(frozen=True)
class PendulumDiscreteTask(_SwingUp):
    """PendulumDiscrete-v1: Pendulum-v1 with a few torques, for agents that choose."""

    # to choose from
    torques: tuple[float, ...] = parameter((-2.0, -1.0, 0.0, 1.0, 2.0), several=True, unit="N m")

    @property
    def spec(self) -> Spec:
        action = Choice("torque", "N m", self.torques)
        order = action.opposites()
        mirror = None if order is None else Mirror(_SIGNS, action_order=order)
        return self._spec("PendulumDiscrete-v1", action, mirror)
