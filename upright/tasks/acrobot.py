"""Acrobot-v1: swing the tip of two links above a line. Gymnasium's task, natively."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from upright.parameters import Parameters, parameter
from upright.plants import acrobot, integrators
from upright.spec import Channel, Choice, Mirror, Spec, Vector
from upright.tasks.task import State, TimeStep


@dataclass(frozen=True)
class AcrobotTask(Parameters):
    """The reward is -1 for every step but the one that reaches the line, which has 0."""

    original: ClassVar[str | None] = "Acrobot-v1"
    drawn_by: ClassVar[str | None] = "Acrobot-v1"

    plant: acrobot.Acrobot = field(default_factory=acrobot.Acrobot)
    torque: float = parameter(1.0, above=0, unit="N m")  # of the motor, in either direction
    dt: float = parameter(0.2, above=0, unit="s")  # sampling time
    # the rates saturate
    rate_limits: tuple[float, float] = parameter((4 * math.pi, 9 * math.pi), above=0, unit="rad/s")
    line: float = parameter(1.0, unit="m")  # height of the line above the hinge
    # start states are uniform within +- this
    start_range: float = parameter(0.1, at_least=0, unit="rad, rad/s")
    episode_steps: int = 500  # the episode is truncated after so many steps

    @property
    def spec(self) -> Spec:
        limit_1, limit_2 = (max(limit, self.start_range) for limit in self.rate_limits)
        return Spec(
            task="Acrobot-v1",
            observation=Vector(
                (
                    Channel("cosine of angle 1", "1", minimum=-1.0, maximum=1.0),
                    Channel("sine of angle 1", "1", minimum=-1.0, maximum=1.0),
                    Channel("cosine of angle 2", "1", minimum=-1.0, maximum=1.0),
                    Channel("sine of angle 2", "1", minimum=-1.0, maximum=1.0),
                    Channel("angular velocity 1", "rad/s", 4.0, minimum=-limit_1, maximum=limit_1),
                    Channel("angular velocity 2", "rad/s", 9.0, minimum=-limit_2, maximum=limit_2),
                )
            ),
            action=Choice("torque", "N m", (-self.torque, 0.0, self.torque)),
            dt=self.dt,
            episode_steps=self.episode_steps,
            solved_return=-100.0,
            mirror=Mirror((1, -1, 1, -1, -1, -1), action_order=(2, 1, 0)),
        )

    def reset(self, key: PRNGKeyArray) -> State:
        x = jax.random.uniform(key, (4,), minval=-self.start_range, maxval=self.start_range)
        return State(x, jnp.zeros((), jnp.int32))

    def observe(self, state: State) -> Float[Array, " 6"]:
        angle_1, angle_2, rate_1, rate_2 = state.x
        angles = [f(angle) for angle in (angle_1, angle_2) for f in (jnp.cos, jnp.sin)]
        return jnp.stack([*angles, rate_1, rate_2])

    def mirror(self, state: State) -> State:
        return state._replace(x=-state.x)

    def step(self, state: State, action: Float[Array, " 1"]) -> tuple[State, TimeStep]:
        x = integrators.rk4(acrobot.dynamics, state.x, action, self.plant, self.dt)
        angles = (x[:2] + math.pi) % (2 * math.pi) - math.pi
        limits = jnp.array(self.rate_limits, x.dtype)
        state = State(jnp.concatenate([angles, jnp.clip(x[2:], -limits, limits)]), state.steps + 1)
        first, second = state.x[0], state.x[0] + state.x[1]
        # The second link counts as long as the first, as in Gymnasium.
        tip = -self.plant.length_1 * (jnp.cos(first) + jnp.cos(second))
        terminated = tip > self.line
        reward = jnp.where(terminated, 0.0, -1.0)
        truncated = state.steps >= self.episode_steps
        return state, TimeStep(self.observe(state), reward, terminated, truncated)
