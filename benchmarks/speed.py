"""Speed of upright beside Stable-Baselines3, and what a user waits for at the start.

    .venv/bin/python benchmarks/speed.py [--rounds 5] [--out FILE]

Same machine, same run, same workload: CartPole, two hidden layers of 128, batch 32, one gradient
step per environment step. The rounds alternate between the programs, so that a busy neighbour slows
down all of them; figures are medians over the rounds. Writes one JSON file and prints a table; exit
status 1 if a bar is missed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from peers.venv import PEERS, peer_python

import upright
from upright.agents.dqn import DQN
from upright.runners import jit
from upright.runners.runner import Segment
from upright.runs.provenance import describe_platform
from upright.tasks.catalogue import make_task
from upright.training.config import ROW_STEPS, plan
from upright.training.pool import Pool
from upright.training.runners import make_runner

WORKLOAD = DQN(
    hidden=(128, 128),
    gamma=0.98,
    learning_rate=5e-4,
    batch_size=32,
    replay_size=10_000,
    gradient_steps=1,
    learning_starts=100,
    epsilon_start=0.1,
    epsilon_end=0.1,
    epsilon_decay_steps=0,
    target_update="steps",
    target_interval=500,
    double=False,
    # These two Stable-Baselines3 does, and it cannot be talked out of the first.
    loss="huber",
    max_gradient_norm=10.0,
)
RESULTS = Path(__file__).parent / "results"
# name: (limit, is it a lower bound)
BARS = {
    "one seed, times Stable-Baselines3": (10, True),
    "20 seeds, times Stable-Baselines3": (25, True),
    "20 seeds, time in times of one": (11, False),
    "Gymnasium's environment: one seed, times Stable-Baselines3": (4, True),
    "Gymnasium's environment: 20 seeds, times Stable-Baselines3": (10, True),
    "Learner.act, median [us]": (100, False),
    "upright --help [s]": (0.7, False),
    "import upright, load a policy [s]": (0.3, False),
    "upright train, second start to first step [s]": (3, False),
}


class Upright:
    """Seeds that are compiled and warm."""

    def __init__(self, runner: Literal["compiled", "hosted"], seeds: int, segments: int):
        self.seeds, self.segments = seeds, segments
        config = plan("CartPole-v1", agent=WORKLOAD, seeds=seeds, steps=1_000_000, runner=runner)
        self.pool = Pool(make_runner(config).start(config.seeds, {}))
        self.steps_per_second(segments=1)

    def steps_per_second(self, segments: int | None = None) -> float:
        segments = segments or self.segments
        left = dict.fromkeys(range(self.seeds), segments)

        def next_segment(seed: int) -> Segment | None:
            left[seed] -= 1
            return Segment(ROW_STEPS) if left[seed] >= 0 else None

        start = time.perf_counter()
        for _ in self.pool.run(next_segment):
            pass
        return self.seeds * segments * ROW_STEPS / (time.perf_counter() - start)


def sb3(threads: int, steps: int) -> float:
    command = [
        peer_python("sb3"),
        PEERS / "sb3.py",
        "--threads",
        str(threads),
        "--steps",
        str(steps),
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output)["steps_per_second"]


def seconds(*command: str | Path) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def seconds_to_first_step(folder: Path) -> float:
    """From the command to the moment at which its progress says that it trains."""
    command = [sys.executable, "-m", "upright", "train", "CartPole-v1", "--seeds", "1"]
    command += ["--steps", "1000", "--out", str(folder)]
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        next(line for line in process.stderr if line.startswith("training"))
        elapsed = time.perf_counter() - start
        process.stderr.read()
    return elapsed


def measure(rounds: int, sb3_steps: int) -> dict[str, list[float]]:
    """Every program once per round."""
    one, twenty = Upright("compiled", 1, segments=20), Upright("compiled", 20, segments=10)
    # On Gymnasium's own CartPole-v1, as the peer.
    hosted, hosted_twenty = Upright("hosted", 1, segments=8), Upright("hosted", 20, segments=1)
    command = Path(sys.executable).parent / "upright"
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        load = _policy_loader(Path(folder))
        seconds_to_first_step(Path(folder) / "cold")
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            measurements = {
                "sb3, 1 thread [steps/s]": lambda: sb3(1, sb3_steps),
                "upright, 1 seed [steps/s]": one.steps_per_second,
                "upright hosted, 1 seed [steps/s]": hosted.steps_per_second,
                "sb3, 2 threads [steps/s]": lambda: sb3(2, sb3_steps),
                "upright, 20 seeds [steps/s]": twenty.steps_per_second,
                "upright hosted, 20 seeds [steps/s]": hosted_twenty.steps_per_second,
                "Learner.act, median [us]": act_microseconds,
                "upright --help [s]": lambda: seconds(command, "--help"),
                "import upright, load a policy [s]": lambda: seconds(sys.executable, "-c", load),
                "upright train, second start to first step [s]": lambda: seconds_to_first_step(
                    Path(folder) / str(number)  # noqa: B023  (called in this very round)
                ),
            }
            for name, function in measurements.items():
                samples.setdefault(name, []).append(round(function(), 4))
    return samples


def act_microseconds() -> float:
    """Of a learner that explores and learns, in its own loop."""
    spec = make_task("CartPole-v1").spec
    learner = upright.Learner(spec, WORKLOAD)
    observation, times = np.zeros(4, np.float32), []
    for _ in range(1000):
        start = time.perf_counter()
        learner.act(observation)
        times.append(1e6 * (time.perf_counter() - start))
        learner.observe(1.0, observation, terminated=False)
        learner.learn()
    return statistics.median(times)


def _policy_loader(folder: Path) -> str:
    """A program that loads a policy, as a robot would."""
    spec = make_task("CartPole-v1").spec
    policy = WORKLOAD.to_policy(WORKLOAD.init(jax.random.key(0), spec), spec)
    policy.save(folder / "policy.safetensors")
    return f"import upright; upright.load_policy({str(folder / 'policy.safetensors')!r})"


def ratios(medians: dict[str, float]) -> dict[str, float]:
    """What the bars speak of."""
    peer = max(medians["sb3, 1 thread [steps/s]"], medians["sb3, 2 threads [steps/s]"])
    one, twenty = medians["upright, 1 seed [steps/s]"], medians["upright, 20 seeds [steps/s]"]
    derived = {
        "one seed, times Stable-Baselines3": one / peer,
        "20 seeds, times Stable-Baselines3": twenty / peer,
        "20 seeds, time in times of one": 20 * one / twenty,
        "Gymnasium's environment: one seed, times Stable-Baselines3": (
            medians["upright hosted, 1 seed [steps/s]"] / peer
        ),
        "Gymnasium's environment: 20 seeds, times Stable-Baselines3": (
            medians["upright hosted, 20 seeds [steps/s]"] / peer
        ),
    }
    return {**derived, **{name: medians[name] for name in BARS if name in medians}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sb3-steps", type=int, default=4000, help="steps of a measurement of SB3")
    parser.add_argument("--out", type=Path, default=RESULTS / "speed.json")
    arguments = parser.parse_args()

    jit.prepare()
    samples = measure(arguments.rounds, arguments.sb3_steps)
    medians = {name: statistics.median(values) for name, values in samples.items()}
    compared = ratios(medians)
    result = {
        "command": " ".join(["benchmarks/speed.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "rounds": arguments.rounds,
        "load": os.getloadavg()[0],
        **asdict(describe_platform(jax.devices()[0].device_kind)),
        "medians": medians,
        "ratios": {name: round(value, 2) for name, value in compared.items()},
        "samples": samples,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    for name, values in samples.items():
        print(f"{name:60} {medians[name]:10,.2f}   ({min(values):,.2f} to {max(values):,.2f})")
    missed = 0
    for name, (limit, lower) in BARS.items():
        reached = compared[name] >= limit if lower else compared[name] <= limit
        missed += not reached
        bar = f"{'>=' if lower else '<='} {limit}"
        print(f"{name:60} {compared[name]:10.2f}   {bar:8} {'ok' if reached else 'MISSED'}")
    print(f"wrote {arguments.out}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
