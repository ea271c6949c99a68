"""A plant of one's own: the reaction-wheel pendulum, balanced by DQN.

A rod on a hinge carries a motor with a flywheel at its end. There is no torque at the hinge: the
rod is held upright by accelerating the wheel, whose reaction pushes the rod the other way, and the
wheel must not run away meanwhile.

                O    wheel: omega, driven by the torque u
               /
              /      rod: theta, 0 upright
             /
            *        hinge

With the wheel's speed omega counted from the room, not from the rod, the equations of motion are

    (I_rod + m_wheel l^2) theta'' = (m_rod l / 2 + m_wheel l) g sin(theta) - torque
    I_wheel omega' = torque,      torque = u - c (omega - theta')

where l is the rod's length, I_rod = m_rod l^2 / 3 about the hinge, I_wheel = m_wheel r^2 / 2, u the
motor's torque and c the friction of the wheel's bearing.

Source: M. W. Spong, P. Corke, R. Lozano, "Nonlinear control of the reaction wheel pendulum",
Automatica 37 (2001), whose model has the wheel's angle in place of its speed, and no friction.

    python own_plant.py                               trains, evaluates and says what to do next
    upright train own_plant:Wheel-v0 --seeds 4        the same as a command, in this folder
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

import upright
from upright import Channel, Choice, Mirror, Parameters, Spec, Vector, parameter
from upright.plants.integrators import rk4
from upright.tasks.task import State, TimeStep


@dataclass(frozen=True)
class WheelPendulum(Parameters):
    """What one would measure."""

    gravity: float = parameter(9.81, at_least=0, unit="m/s^2")
    rod_mass: float = parameter(0.1, above=0, unit="kg")
    rod_length: float = parameter(0.2, above=0, unit="m")  # from the hinge to the wheel's axis
    wheel_mass: float = parameter(0.1, above=0, unit="kg")  # a disk
    wheel_radius: float = parameter(0.06, above=0, unit="m")
    friction: float = parameter(1e-5, at_least=0, unit="N m s/rad")  # of the wheel's bearing


def dynamics(x: Float[Array, " 3"], u: Float[Array, " 1"], p: WheelPendulum) -> Float[Array, " 3"]:
    """Derivative of x = (angle [rad], its velocity [rad/s], wheel speed [rad/s]); u[0] [N m]."""
    angle, velocity, wheel = x
    on_wheel = u[0] - p.friction * (wheel - velocity)
    inertia = p.rod_mass * p.rod_length**2 / 3 + p.wheel_mass * p.rod_length**2
    falling = (p.rod_mass / 2 + p.wheel_mass) * p.rod_length * p.gravity * jnp.sin(angle)
    wheel_inertia = p.wheel_mass * p.wheel_radius**2 / 2
    return jnp.stack([velocity, (falling - on_wheel) / inertia, on_wheel / wheel_inertia])


@dataclass(frozen=True)
class WheelTask(Parameters):
    """Keep the rod upright for ten seconds. A step's reward is 1 minus what is left to do:

    1 - (angle / angle_limit)^2 / 2 - (wheel speed / wheel_limit)^2 / 2
    """

    plant: WheelPendulum = field(default_factory=WheelPendulum)
    torque: float = parameter(0.05, above=0, unit="N m")  # of the motor, in either direction
    dt: float = parameter(0.02, above=0, unit="s")  # sampling time
    angle_limit: float = parameter(0.3, above=0, unit="rad")  # the episode terminates beyond it
    wheel_limit: float = parameter(200.0, above=0, unit="rad/s")  # the episode terminates beyond it
    start_range: float = parameter(0.1, at_least=0, unit="rad, rad/s")  # of angle and velocity, +-
    episode_steps: int = 500  # the episode is truncated after so many steps

    @property
    def spec(self) -> Spec:
        angle, wheel = self.angle_limit, self.wheel_limit
        return Spec(
            task="Wheel-v0",
            observation=Vector(
                (
                    Channel("angle", "rad", angle, terminates_below=-angle, terminates_above=angle),
                    Channel("angular velocity", "rad/s", scale=2.0),
                    Channel(
                        "wheel speed",
                        "rad/s",
                        wheel,
                        terminates_below=-wheel,
                        terminates_above=wheel,
                    ),
                )
            ),
            action=Choice("torque", "N m", (-self.torque, 0.0, self.torque)),
            dt=self.dt,
            episode_steps=self.episode_steps,
            solved_return=450.0,
            mirror=Mirror((-1, -1, -1), action_order=(2, 1, 0)),
        )

    def reset(self, key: PRNGKeyArray) -> State:
        rod = jax.random.uniform(key, (2,), minval=-self.start_range, maxval=self.start_range)
        return State(jnp.append(rod, 0.0), jnp.zeros((), jnp.int32))

    def observe(self, state: State) -> Float[Array, " 3"]:
        return state.x

    def mirror(self, state: State) -> State:
        return state._replace(x=-state.x)

    def step(self, state: State, action: Float[Array, " 1"]) -> tuple[State, TimeStep]:
        x = rk4(dynamics, state.x, action, self.plant, self.dt)
        state = State(x, state.steps + 1)
        angle, wheel = x[0] / self.angle_limit, x[2] / self.wheel_limit
        reward = 1 - angle**2 / 2 - wheel**2 / 2
        terminated = (jnp.abs(angle) > 1) | (jnp.abs(wheel) > 1)
        truncated = state.steps >= self.episode_steps
        return state, TimeStep(x, reward, terminated, truncated)


upright.register("Wheel-v0", WheelTask)


def main() -> None:
    run = upright.train("Wheel-v0", seeds=4)
    for seed, policy in run.policies().items():
        result = upright.evaluate(policy, episodes=100).summary()
        print(
            f"seed {seed}: mean return {result['mean_return']:.1f},"
            f" worst {result['worst_return']:.1f} of at most 500"
        )
    print(f"see it: upright play {run.path} --task own_plant:Wheel-v0 --gif wheel.gif")


if __name__ == "__main__":
    main()
