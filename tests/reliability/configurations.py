"""Random settings: a seed alone, in company, on one core, and interrupted must be the same bytes.

    python tests/reliability/configurations.py [--count N] [--seed S] [--out FILE.json]

Configuration N of a seed is always the same one: `--first N --count 1` repeats it.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent.parent))

from walks import files

import upright
from upright import DQN
from upright.errors import UprightWarning
from upright.training import trainer

TASKS = {
    "compiled": ("CartPole-v1", "Acrobot-v1", "MountainCar-v0"),
    "hosted": ("CartPole-v1", "Acrobot-v1", "MountainCar-v0", "upright/MountainCar-v0", "Walk-v0"),
}
SIZES = (1, 2, 3, 4, 7, 8, 16, 17, 32, 48, 64)


def draw_agent(chance):
    """All settings of DQN, at random."""
    hidden = tuple(chance.choice(SIZES) for _ in range(chance.randint(1, 3)))
    return DQN(
        hidden=hidden,
        gamma=chance.choice((0.9, 0.99, 1.0)),
        learning_rate=10 ** chance.uniform(-4, -2),
        learning_rate_end=chance.choice((0.0, 1e-4)),
        learning_rate_decay_steps=chance.choice((0, 100)),
        batch_size=chance.choice((1, 2, 3, 8, 32, 64)),
        replay_size=chance.choice((64, 200, 10_000)),
        learning_starts=chance.randint(0, 60),
        gradient_steps=chance.choice((1, 1, 2, 3, 5)),
        environments=chance.choice((1, 1, 2, 3)),
        epsilon_start=chance.choice((1.0, 0.5)),
        epsilon_end=chance.choice((0.0, 0.1)),
        epsilon_decay_steps=chance.choice((0, 100, 1000)),
        target_update=chance.choice(("episodes", "steps", "polyak")),
        target_interval=chance.randint(1, 30),
        tau=chance.choice((0.02, 0.5, 1.0)),
        double=chance.random() < 0.5,
        loss=chance.choice(("mse", "huber")),
        max_gradient_norm=chance.choice((0.0, 0.0, 0.5, 10.0)),
        scale_observations=chance.random() < 0.7,
    )


def draw(seed, number):
    """The task and the arguments of `train`, how many seeds, and after how long it is cut off."""
    chance = random.Random(f"{seed} {number}")
    runner = chance.choice(("compiled", "hosted", "hosted"))
    task, agent = chance.choice(TASKS[runner]), draw_agent(chance)
    options = {
        "agent": agent,
        "runner": runner,
        "evaluate_every": 6 * chance.randint(10, 40),
        "evaluation_episodes": chance.randint(1, 3),
        "final_episodes": 2,
        "checkpoint_every": 6 * chance.randint(5, 40),
    }
    if "Cart" in task and chance.random() < 0.5:
        options["episodes"] = chance.randint(2, 15)
    else:
        options["steps"] = 6 * chance.randint(20, 60)
    # Calls of `cancelled`: one for each segment, or each tick and step of an evaluation.
    calls = int(10 ** chance.uniform(0, 1.2 if runner == "compiled" else 3))
    return task, options, chance.randint(2, 5), calls, chance.choice(("cancelled", "killed"))


def train(task, out, seeds, options):
    return files(upright.train(task, out=out, seeds=seeds, **options))


def train_on_one_core(task, out, seeds, options):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        return train(task, out, seeds, options)
    finally:
        os.sched_setaffinity(0, before)


def train_in_two_lives(task, out, seeds, options, calls, end):
    """The first one ends after so many looks at whether it should."""

    def cancelled(self):
        nonlocal calls
        calls -= 1
        if calls <= 0 and end == "killed":
            raise KeyboardInterrupt
        return calls <= 0

    patched = mock.patch.object(trainer.Trainer, "cancelled", cancelled)
    with patched, suppress(KeyboardInterrupt):
        upright.train(task, out=out, seeds=seeds, **options)
    if not (out / "run.json").exists():
        return train(task, out, seeds, options)
    run = upright.Run(out)
    if {result.state for result in run.results} - {"finished", "diverged"}:
        run = upright.resume(out)
    return files(run)


def differences(seed, number, folder):
    """What is not as it was in company: "alone: seeds/01/last.safetensors" and so on."""
    task, options, seeds, calls, end = draw(seed, number)
    expected = train(task, folder / "company", seeds, options)
    one = number % seeds
    found = {
        "alone": train(task, folder / "alone", f"{one},", options),
        "on one core": train_on_one_core(task, folder / "core", seeds, options),
        f"{end} at {calls}": train_in_two_lives(task, folder / "lives", seeds, options, calls, end),
    }
    mine = {name: content for name, content in expected.items() if f"seeds/{one:02d}/" in name}
    bad = []
    for way, content in found.items():
        wanted = mine if way == "alone" else expected
        names = [name for name in content.keys() | wanted.keys() if name.startswith("seeds/")]
        bad += [f"{way}: {n}" for n in sorted(names) if content.get(n) != wanted.get(n)]
    return bad


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="configuration to begin with")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    bad = {}
    warnings.simplefilter("ignore", UprightWarning)  # such budgets are too small for anything
    for number in range(options.first, options.first + options.count):
        with tempfile.TemporaryDirectory() as folder:
            found = differences(options.seed, number, Path(folder))
        print(f"configuration {number}: {'; '.join(found) or 'same'}", flush=True)
        if found:
            bad[number] = found
            print(f"  repeat with --seed {options.seed} --first {number} --count 1")
            print(f"  {draw(options.seed, number)}", flush=True)
    print(f"tried {options.count}, bad {len(bad)}")
    if options.out:
        result = {"seed": options.seed, "tried": options.count, "bad": bad}
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
