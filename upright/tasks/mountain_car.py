"""Rock out of a valley: Gymnasium's MountainCar-v0 and MountainCarContinuous-v0, natively."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from upright.parameters import Parameters, parameter
from upright.plants import integrators, mountain_car
from upright.spec import Channel, Choice, Continuous, Spec, Vector
from upright.tasks.task import State, TimeStep


@dataclass(frozen=True)
class MountainCarTask(Parameters):
    """The reward is -1 for every step, until the flag on the right hill is reached."""

    original: ClassVar[str | None] = "MountainCar-v0"
    drawn_by: ClassVar[str | None] = "MountainCar-v0"

    plant: mountain_car.MountainCar = field(default_factory=mountain_car.MountainCar)
    # acceleration by the motor, in either direction
    force: float = parameter(0.001, above=0, unit="m/step^2")
    left_wall: float = parameter(-1.2, unit="m")  # stops the car
    right_wall: float = parameter(0.6, unit="m")
    speed_limit: float = parameter(0.07, above=0, unit="m/step")
    goal: float = parameter(0.5, unit="m")  # position of the flag; the episode terminates there
    goal_speed: float = parameter(0.0, unit="m/step")  # least velocity at the flag
    # start positions are uniform in it, at rest
    start: tuple[float, float] = parameter((-0.6, -0.4), ordered=True, unit="m")
    episode_steps: int = 200  # the episode is truncated after so many steps

    @property
    def spec(self) -> Spec:
        return Spec(
            task="MountainCar-v0",
            observation=Vector(
                (
                    Channel(
                        "position",
                        "m",
                        minimum=min(self.left_wall, *self.start),
                        maximum=max(self.right_wall, *self.start),
                        terminates_above=self.goal,
                    ),
                    Channel(
                        "velocity",
                        "m/step",
                        scale=self.speed_limit,
                        minimum=-self.speed_limit,
                        maximum=self.speed_limit,
                    ),
                )
            ),
            action=Choice("acceleration", "m/step^2", (-self.force, 0.0, self.force)),
            dt=1 / 30,  # as Gymnasium shows it; the task itself counts steps
            episode_steps=self.episode_steps,
            solved_return=-110.0,
        )

    def reset(self, key: PRNGKeyArray) -> State:
        low, high = self.start
        position = jax.random.uniform(key, minval=low, maxval=high)
        return State(jnp.stack([position, jnp.zeros(())]), jnp.zeros((), jnp.int32))

    def observe(self, state: State) -> Float[Array, " 2"]:
        return state.x

    def step(self, state: State, action: Float[Array, " 1"]) -> tuple[State, TimeStep]:
        state, reached = self._move(state, action)
        truncated = state.steps >= self.episode_steps
        return state, TimeStep(state.x, -jnp.ones_like(state.x[0]), reached, truncated)

    def _move(self, state: State, push: Float[Array, " 1"]) -> tuple[State, Bool[Array, ""]]:
        """One step with this acceleration [m/step^2]; and whether the flag is reached."""
        position, velocity = integrators.semi_implicit_euler(
            mountain_car.dynamics, state.x, push, self.plant, 1.0, self.speed_limit
        )
        position = jnp.clip(position, self.left_wall, self.right_wall)
        # The left wall stops the car, the right one does not: the flag is before it.
        velocity = jnp.where((position == self.left_wall) & (velocity < 0), 0.0, velocity)
        reached = (position >= self.goal) & (velocity >= self.goal_speed)
        return State(jnp.stack([position, velocity]), state.steps + 1), reached


@dataclass(frozen=True)
class MountainCarContinuousTask(MountainCarTask):
    """The reward is -0.1 throttle^2 for every step, and 100 for the one that reaches the flag."""

    original: ClassVar[str | None] = "MountainCarContinuous-v0"
    drawn_by: ClassVar[str | None] = "MountainCarContinuous-v0"

    # acceleration by the motor at full throttle
    force: float = parameter(0.0015, above=0, unit="m/step^2")
    goal: float = parameter(0.45, unit="m")  # position of the flag; the episode terminates there
    episode_steps: int = 999  # the episode is truncated after so many steps

    @property
    def spec(self) -> Spec:
        return replace(
            super().spec,
            task="MountainCarContinuous-v0",
            action=Continuous((Channel("throttle", "1", minimum=-1.0, maximum=1.0),)),
            solved_return=90.0,
        )

    def step(self, state: State, action: Float[Array, " 1"]) -> tuple[State, TimeStep]:
        state, reached = self._move(state, self.force * action)
        reward = jnp.where(reached, 100.0, 0.0) - 0.1 * action[0] ** 2
        truncated = state.steps >= self.episode_steps
        return state, TimeStep(state.x, reward, reached, truncated)
