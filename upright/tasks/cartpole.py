"""Keep the pole up and the cart on its track.

CartPole-v1 is Gymnasium's task, natively; CartPoleContinuous-v0 is the same with any force.
"""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from upright.parameters import Parameters, parameter
from upright.plants import cartpole, integrators
from upright.spec import Channel, Choice, Continuous, Mirror, Spec, Vector
from upright.tasks.task import State, TimeStep


@dataclass(frozen=True)
class CartPoleTask(Parameters):
    """The reward is 1 for every step, the one that ends the episode included."""

    original: ClassVar[str | None] = "CartPole-v1"
    drawn_by: ClassVar[str | None] = "CartPole-v1"

    plant: cartpole.CartPole = field(default_factory=cartpole.CartPole)
    force: float = parameter(10.0, above=0, unit="N")  # magnitude of a push
    dt: float = parameter(0.02, above=0, unit="s")  # sampling time
    # the episode terminates beyond it
    position_limit: float = parameter(2.4, above=0, unit="m")
    # the episode terminates beyond it
    angle_limit: float = parameter(math.radians(12), above=0, unit="rad")
    # start states are uniform within +- this
    start_range: float = parameter(0.05, at_least=0, unit="m, m/s, rad, rad/s")
    episode_steps: int = 500  # the episode is truncated after so many steps

    @property
    def spec(self) -> Spec:
        return Spec(
            task="CartPole-v1",
            observation=Vector(
                (
                    Channel(
                        "cart position",
                        "m",
                        scale=self.position_limit,
                        terminates_below=-self.position_limit,
                        terminates_above=self.position_limit,
                    ),
                    Channel("cart velocity", "m/s", scale=3.0),
                    Channel(
                        "pole angle",
                        "rad",
                        scale=self.angle_limit,
                        terminates_below=-self.angle_limit,
                        terminates_above=self.angle_limit,
                    ),
                    Channel("pole angular velocity", "rad/s", scale=3.0),
                )
            ),
            action=Choice("force", "N", (-self.force, self.force)),
            dt=self.dt,
            episode_steps=self.episode_steps,
            solved_return=475.0,
            mirror=Mirror((-1, -1, -1, -1), action_order=(1, 0)),
        )

    def reset(self, key: PRNGKeyArray) -> State:
        x = jax.random.uniform(key, (4,), minval=-self.start_range, maxval=self.start_range)
        return State(x, jnp.zeros((), jnp.int32))

    def observe(self, state: State) -> Float[Array, " 4"]:
        return state.x

    def mirror(self, state: State) -> State:
        return state._replace(x=-state.x)

    def step(self, state: State, action: Float[Array, " 1"]) -> tuple[State, TimeStep]:
        x = integrators.euler(cartpole.dynamics, state.x, action, self.plant, self.dt)
        steps = state.steps + 1
        position, angle = x[0], x[2]
        terminated = (jnp.abs(position) > self.position_limit) | (jnp.abs(angle) > self.angle_limit)
        truncated = steps >= self.episode_steps
        return State(x, steps), TimeStep(x, jnp.ones_like(position), terminated, truncated)


@dataclass(frozen=True)
class CartPoleContinuousTask(CartPoleTask):
    """CartPole-v1 with any force within +-`force`; the reward is 1 for every step."""

    original: ClassVar[str | None] = None

    @property
    def spec(self) -> Spec:
        force = Channel("force", "N", scale=self.force, minimum=-self.force, maximum=self.force)
        return replace(
            super().spec,
            task="CartPoleContinuous-v0",
            action=Continuous((force,)),
            mirror=Mirror((-1, -1, -1, -1), action_signs=(-1,)),
        )
