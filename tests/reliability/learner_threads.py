"""A learner learns in a thread, is saved in another, and acts in a control loop of 200 Hz.

    python tests/reliability/learner_threads.py [--seconds 60] [--seed S] [--out FILE.json]

Bad is whatever raises, a step that is not counted, and a file that does not hold together. Prints
how long `act` took; a busy machine, or Python's lock, may hold it up, a learning step may not.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from upright import DQN, Channel, Choice, Learner, Spec, Vector

PERIOD = 0.005  # [s]
SPEC = Spec(
    "test",
    Vector((Channel("x", "m", scale=None),) * 4),
    Choice("force", "N", (-1.0, 1.0)),
    PERIOD,
    None,
)
AGENT = DQN(batch_size=32, learning_starts=20, replay_size=500)


def run(seconds, seed, folder):
    """Complaints, numbers of calls, and how long `act` took [s]."""
    learner = Learner(SPEC, AGENT, seed)
    complaints, over = [], threading.Event()
    calls = {"learn": 0, "save": 0}

    def again(name, pause, function):
        while not over.is_set():
            try:
                calls[name] += bool(function())
            except Exception as error:
                complaints.append(f"{name}: {type(error).__name__}: {error}")
                return
            time.sleep(pause)

    def save():
        path = folder / "learner.safetensors"
        learner.save(path)
        learner.policy().to_bytes()
        loaded = None if calls["save"] % 20 else Learner.load(path)
        if loaded and loaded.steps != int(loaded._memory.stored(0).added):
            complaints.append(f"save: {loaded.steps} steps, but another number in the memory")
        return True

    threads = [
        threading.Thread(target=again, args=("learn", 0.0005, learner.learn)),
        threading.Thread(target=again, args=("save", 0.05, save)),
    ]
    times = loop(learner, round(seconds / PERIOD), seed, threads)
    over.set()
    for thread in threads:
        thread.join()
    learner.learn()
    if int(learner._state.steps) != learner.steps or learner.steps != len(times):
        complaints.append(f"{learner._state.steps} of {learner.steps} steps were counted")
    return complaints, calls, np.array(times)


def loop(learner, cycles, seed, threads):
    rng = np.random.default_rng(seed)
    observation, times = rng.normal(size=4), []
    deadline = time.monotonic()
    for cycle in range(cycles):
        begin = time.perf_counter()
        learner.act(observation)
        times.append(time.perf_counter() - begin)
        observation = rng.normal(size=4)
        learner.observe(rng.normal(), observation, cycle % 97 == 96)
        if cycle == 0:  # now there is something to learn from
            for thread in threads:
                thread.start()
        deadline = max(deadline + PERIOD, time.monotonic() - PERIOD)
        time.sleep(max(0, deadline - time.monotonic()))
    return times


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        complaints, calls, times = run(options.seconds, options.seed, Path(folder))
    for complaint in complaints:
        print(complaint)
    micro = {"median": np.median(times), "99 %": np.quantile(times, 0.99), "worst": times.max()}
    micro = {name: round(1e6 * float(value)) for name, value in micro.items()}
    print(f"act [us]: {micro}; {len(times)} cycles, learned {calls['learn']} times")
    print(f"tried {len(times)}, bad {len(complaints)}")
    if options.out:
        result = {
            "seed": options.seed,
            "tried": len(times),
            "bad": complaints,
            "act_us": micro,
        } | calls
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
