"""Learning on a machine of your own, in a control loop of 50 Hz.

    python examples/loop_50hz.py --seconds 60

The machine here is a simulated pendulum on a cart, so that the example runs anywhere. Put your
sensors and your motor into `Machine`, and your limits and your reward into `run`.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np

import upright

PERIOD = 0.02  # of the loop [s]
EPISODE = 500  # cycles; then the machine is brought back to its start

SPEC = upright.Spec(
    task="my pendulum",
    observation=upright.Vector(
        (
            upright.Channel(
                "cart position", "m", scale=2.4, terminates_below=-2.4, terminates_above=2.4
            ),
            upright.Channel("cart velocity", "m/s", scale=3.0),
            upright.Channel(
                "pole angle", "rad", scale=0.21, terminates_below=-0.21, terminates_above=0.21
            ),
            upright.Channel("pole angular velocity", "rad/s", scale=3.0),
        )
    ),
    action=upright.Choice("force", "N", (-10.0, 10.0)),
    dt=PERIOD,
    episode_steps=EPISODE,
)


class Machine:
    """Stands in for yours: a pole of 1 m and 0.1 kg on a cart of 1 kg."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self.bring_to_start()

    def bring_to_start(self) -> None:
        self._state = self._rng.uniform(-0.05, 0.05, 4)

    def measure(self) -> np.ndarray:
        """Position [m], velocity [m/s], angle [rad], angular velocity [rad/s]."""
        return self._state.astype(np.float32)

    def push(self, force: float) -> None:
        """Holds this force [N] until the next cycle."""
        _, v, angle, rate = self._state
        sin, cos = math.sin(angle), math.cos(angle)
        thrust = (force + 0.05 * rate**2 * sin) / 1.1
        turn = (9.8 * sin - cos * thrust) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
        change = np.array([v, thrust - 0.05 * turn * cos / 1.1, rate, turn])
        self._state = self._state + PERIOD * change


def run(machine: Machine, learner: upright.Learner, cycles: int, realtime: bool = True) -> int:
    """The loop; returns how many cycles came too late."""
    late, length = 0, 0
    observation = machine.measure()
    deadline = time.monotonic()
    for _ in range(cycles):
        machine.push(learner.act(observation))

        # The pause until the next cycle is time to learn.
        if learner.steps:
            learner.learn()
        deadline += PERIOD
        pause = deadline - time.monotonic()
        if realtime and pause > 0:
            time.sleep(pause)
        elif realtime:
            late, deadline = late + 1, time.monotonic()

        observation = machine.measure()
        length += 1
        fallen = any(
            not channel.terminates_below <= value <= channel.terminates_above
            for channel, value in zip(SPEC.observation.channels, observation, strict=True)
        )
        learner.observe(1.0, observation, terminated=fallen, truncated=length == EPISODE)
        if fallen or length == EPISODE:
            machine.bring_to_start()
            observation, length = machine.measure(), 0
    return late


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of the machine's time")
    parser.add_argument("--fast", action="store_true", help="do not wait for the clock")
    parser.add_argument("--file", type=Path, default=Path("learner.safetensors"))
    arguments = parser.parse_args()

    if arguments.file.exists():
        learner = upright.Learner.load(arguments.file)
        if learner.spec != SPEC:
            parser.error(f"{arguments.file} is for {learner.spec.task}, not for {SPEC.task}")
        print(f"goes on from {arguments.file}, {learner.steps} cycles old")
    else:
        learner = upright.Learner(SPEC, upright.DQN(), seed=0)
    try:
        cycles = round(arguments.seconds / PERIOD)
        late = run(Machine(), learner, cycles, realtime=not arguments.fast)
        print(f"{cycles} cycles, {late} of them late")
    finally:  # Ctrl-C, too: nothing is lost
        learner.save(arguments.file)
        learner.policy().save(arguments.file.with_name("policy.safetensors"))
        print(f"wrote {arguments.file} and policy.safetensors")


if __name__ == "__main__":
    main()
