"""CartPoleSwingUp-v0: bring a hanging pole up, and keep it there, by any force on the cart."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from upright.parameters import Parameters, parameter
from upright.plants import cartpole, integrators
from upright.spec import Channel, Continuous, Mirror, Spec, Vector
from upright.tasks.task import State, TimeStep


@dataclass(frozen=True)
class CartPoleSwingUpTask(Parameters):
    """The pole starts hanging; the cart must not leave its track.

    The reward of a step, without a unit, is what the pole's height is worth, minus small costs:

        (1 + cos(angle)) / 2 - 0.05 (position / position_limit)^2 - 0.01 (force / largest force)^2

    from the state after the step and the force [N] in it. Upright in the middle of the track
    without a force that is 1, hanging there 0: it does not pay to end an episode early.
    """

    original: ClassVar[str | None] = None
    drawn_by: ClassVar[str | None] = "CartPole-v1"

    plant: cartpole.CartPole = field(default_factory=cartpole.CartPole)
    force: float = parameter(10.0, above=0, unit="N")  # the largest, in either direction
    dt: float = parameter(0.02, above=0, unit="s")  # sampling time
    # the episode terminates beyond it
    position_limit: float = parameter(2.4, above=0, unit="m")
    # start states are uniform within +- this of hanging at rest
    start_range: float = parameter(0.05, at_least=0, unit="m, m/s, rad, rad/s")
    episode_steps: int = 500  # the episode is truncated after so many steps

    @property
    def spec(self) -> Spec:
        return Spec(
            task="CartPoleSwingUp-v0",
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
                    Channel("cosine of the pole angle", "1", minimum=-1.0, maximum=1.0),
                    Channel("sine of the pole angle", "1", minimum=-1.0, maximum=1.0),
                    Channel("pole angular velocity", "rad/s", scale=6.0),
                )
            ),
            action=Continuous(
                (Channel("force", "N", self.force, minimum=-self.force, maximum=self.force),)
            ),
            dt=self.dt,
            episode_steps=self.episode_steps,
            mirror=Mirror((-1, -1, 1, -1, -1), action_signs=(-1,)),
        )

    def reset(self, key: PRNGKeyArray) -> State:
        around = jax.random.uniform(key, (4,), minval=-self.start_range, maxval=self.start_range)
        return State(around.at[2].add(math.pi), jnp.zeros((), jnp.int32))

    def observe(self, state: State) -> Float[Array, " 5"]:
        position, velocity, angle, rate = state.x
        return jnp.stack([position, velocity, jnp.cos(angle), jnp.sin(angle), rate])

    def mirror(self, state: State) -> State:
        return state._replace(x=-state.x)

    def step(self, state: State, action: Float[Array, " 1"]) -> tuple[State, TimeStep]:
        # Of order 4, since a pole that swings freely must keep its energy.
        x = integrators.rk4(cartpole.dynamics, state.x, action, self.plant, self.dt)
        state = State(x, state.steps + 1)
        position, angle = x[0], x[2]
        reward = (
            (1 + jnp.cos(angle)) / 2
            - 0.05 * (position / self.position_limit) ** 2
            - 0.01 * (action[0] / self.force) ** 2
        )
        terminated = jnp.abs(position) > self.position_limit
        truncated = state.steps >= self.episode_steps
        return state, TimeStep(self.observe(state), reward, terminated, truncated)
