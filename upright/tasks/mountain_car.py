"""MountainCar-v0: rock out of a valley. Gymnasium's task, natively."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from upright.plants import integrators, mountain_car
from upright.spec import Channel, Choice, Spec, Vector
from upright.tasks.task import State, TimeStep


@dataclass(frozen=True)
class MountainCarTask:
    """The reward is -1 for every step, until the flag on the right hill is reached."""

    plant: mountain_car.MountainCar = field(default_factory=mountain_car.MountainCar)
    force: float = 0.001  # acceleration by the motor, in either direction [m/step^2]
    left_wall: float = -1.2  # stops the car [m]
    right_wall: float = 0.6  # [m]
    speed_limit: float = 0.07  # [m/step]
    goal: float = 0.5  # position of the flag; the episode terminates there [m]
    goal_speed: float = 0.0  # least velocity at the flag [m/step]
    start: tuple[float, float] = (-0.6, -0.4)  # start positions are uniform in it, at rest [m]
    episode_steps: int = 200  # the episode is truncated after so many steps

    @property
    def spec(self) -> Spec:
        return Spec(
            task="MountainCar-v0",
            observation=Vector(
                (
                    Channel("position", "m", scale=1.0, terminates_above=self.goal),
                    Channel("velocity", "m/step", scale=self.speed_limit),
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

    def step(self, state: State, action: Int[Array, ""]) -> tuple[State, TimeStep]:
        push = self.force * (action - 1).astype(state.x.dtype)
        position, velocity = integrators.semi_implicit_euler(
            mountain_car.dynamics, state.x, push, self.plant, 1.0, self.speed_limit
        )
        position = jnp.clip(position, self.left_wall, self.right_wall)
        # The left wall stops the car, the right one does not: the flag is before it.
        velocity = jnp.where((position == self.left_wall) & (velocity < 0), 0.0, velocity)
        x, steps = jnp.stack([position, velocity]), state.steps + 1
        terminated = (position >= self.goal) & (velocity >= self.goal_speed)
        reward = -jnp.ones_like(position)
        return State(x, steps), TimeStep(x, reward, terminated, steps >= self.episode_steps)
