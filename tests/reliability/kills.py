"""Runs that are killed, fail to write or hear Ctrl-C in any call that changes their files.

python tests/reliability/kills.py [--count N] [--seed S] [--only NAME] [--first CALL] [--out FILE]

Without --count every call is tried. After each mischief one command, the same or `resume`, has to
lead to the same bytes as if nothing had happened. All is done in this process, with compiled
programs kept: who was killed is an exception that nobody catches, after which no call changes a
file any more.
"""

import argparse
import gc
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import walks  # noqa: F401  # registers Walk-v0
from reliability.calls import MISCHIEFS, Calls, Killed

import upright
from upright import DQN, Run, UprightError
from upright.runners import compiled_seeds, hosted
from upright.runs import provenance
from upright.training import train as training

TASKS = {"compiled": "CartPole-v1", "hosted": "Walk-v0"}
QUICK = DQN(hidden=(4,), batch_size=4, replay_size=100, learning_starts=20, epsilon_decay_steps=90)
STEPS, SHORT = 220, 110
TEMPORARY = re.compile(r"\.[^/]+\.[0-9a-f]{8}")  # as `write_atomically` names what is not whole


@dataclass(frozen=True)
class Scenario:
    """What is done in a folder: `prepare` undisturbed, then `act`, with mischief."""

    name: str
    prepare: Callable[[Path], object]
    act: Callable[[Path], object]
    out: str = "run"  # where the result is, below the folder


def scenarios(runner: str) -> list[Scenario]:
    def train(place, name="run", seeds=(0, 1), steps=STEPS, **more):
        options = {"evaluate_every": 60, "evaluation_episodes": 2, "checkpoint_every": 40}
        options["final_episodes"] = 1
        options |= {"runner": runner, "agent": QUICK, "seeds": seeds, "steps": steps}
        return upright.train(TASKS[runner], out=place / name, **options, **more)

    def nothing(place):
        pass

    def short(place):
        train(place, steps=SHORT)

    def one(place):
        train(place, seeds=[0])

    def two(place):
        train(place, "a", seeds=[0])
        train(place, "b", seeds=[1])

    def more(place):
        upright.resume(place / "run", steps=STEPS)

    def join(place):
        train(place, seeds=[1], join=True)

    def merge(place):
        upright.merge([place / "a", place / "b"], place / "run")

    found = [
        Scenario(f"train-{runner}", nothing, train),
        Scenario(f"more-{runner}", short, more),
        Scenario(f"join-{runner}", one, join),
    ]
    if runner == "compiled":  # no runner takes part
        found.append(Scenario("merge", two, merge))
    return found


def keep_programs() -> None:
    """Compiled once for all trainings here; what does not concern files is left out."""

    def kept(function, key):
        store = {}

        def call(*arguments):
            place = key(*arguments)
            if place not in store:
                store[place] = function(*arguments)
            return store[place]

        return call

    training.make_runner = kept(training.make_runner, lambda config, render: config.runner)
    compiled_seeds._compile = kept(compiled_seeds._compile, lambda *a: a[:2])
    hosted.compile_programs = kept(hosted.compile_programs, id)
    platform = provenance.describe_platform("cpu")
    provenance.describe_platform = lambda device: platform


class Round:
    """One scenario with its preparations and what it leads to, tried with mischief in any call."""

    def __init__(self, scenario: Scenario, place: Path):
        self.scenario = scenario
        self.prepared, self.place = place / "prepared", place / "tried"
        self.prepared.mkdir(parents=True)
        scenario.prepare(self.prepared)
        self._reset()
        with Calls(self.place) as calls:
            scenario.act(self.place)
        self.calls = calls.count
        self.expected = result(self.place / scenario.out)
        self.names = names(self.place)

    def attempt(self, mischief: str, at: int) -> str:
        """What is wrong after mischief in the call of this number; nothing if all is well."""
        self._reset()
        wrong = self._act(mischief, at)
        gc.collect()  # a process that dies gives its locks free
        return wrong or self._state() or self._recover()

    def _reset(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.prepared, self.place)

    def _act(self, mischief: str, at: int) -> str:
        calls = Calls(self.place, mischief, at)
        try:
            with calls:
                self.scenario.act(self.place)
        except Killed:
            return "" if mischief == "kill" else "killed?"
        except KeyboardInterrupt:
            return "" if mischief == "ctrl-c" else "Ctrl-C out of nothing"
        except UprightError as error:
            if mischief not in ("full", "error"):
                return f"failed: {error}"
            if TEMPORARY.search(str(error)) or str(self.place) not in str(error):
                return f"message names no file of the user's: {error}"
            return "" if "\n" not in str(error) else f"several lines: {error}"
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
        # The seeds' order is not fixed, and with it how often the best policy is written.
        return "a kill was caught" if mischief == "kill" and calls.count > at else ""

    def _state(self) -> str:
        path = self.place / self.scenario.out
        if not (path / "run.json").exists():
            return ""
        status = Run(path).status
        return "status is running, and nobody is" if status == "running" else ""

    def _recover(self) -> str:
        path = self.place / self.scenario.out
        tried: list[str] = []
        for command in (self.scenario.act, lambda place: upright.resume(path)):
            try:
                command(self.place)
                break
            except UprightError as error:
                tried.append(str(error))
        else:
            if not (path / "run.json").exists():
                return f"no way on: {tried}"
        found = result(path)
        if different := [
            n for n in {*found, *self.expected} if found.get(n) != self.expected.get(n)
        ]:
            return f"different: {sorted(different)} (said: {tried})"
        if odd := names(self.place) ^ self.names:
            return f"left over or missing: {sorted(odd)}"
        return ""


def result(run: Path) -> dict[str, object]:
    """All that a training computes: by name, as bytes; and what its seeds tell of it."""
    found: dict[str, object] = {}
    for path in run.rglob("*"):
        if path.suffix in (".safetensors", ".csv"):
            found[str(path.relative_to(run))] = path.read_bytes()
    opened = Run(run)
    found["run.json"] = opened.info.config
    for seed in opened.results:
        found[f"seed.json of {seed.seed}"] = replace(seed, stints=())
    return found


def names(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.name != ".lock"}


def main(arguments: list[str] | None = None) -> int:
    """Prints progress, what was bad, and how many were tried."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, help="as many, drawn at random; else all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="SCENARIO, SCENARIO/MISCHIEF or .../CALL")
    parser.add_argument("--first", type=int, default=0, help="call; if negative from the last one")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    keep_programs()
    tried, bad = Counter(dict.fromkeys(MISCHIEFS, 0)), []
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        known = [scenario for runner in TASKS for scenario in scenarios(runner)]
        wanted = [s for s in known if asked.only.startswith(s.name) or not asked.only]
        rounds = [Round(scenario, Path(folder) / scenario.name) for scenario in wanted]
        attempts = [
            (each, mischief, at)
            for each in rounds
            for mischief in MISCHIEFS
            for at in range(each.calls)[asked.first :]
            if f"{each.scenario.name}/{mischief}/{at}/".startswith(asked.only.rstrip("/") + "/")
            or not asked.only
        ]
        if asked.count is not None:
            attempts = random.Random(asked.seed).sample(attempts, min(asked.count, len(attempts)))
        print(", ".join(f"{each.scenario.name}: {each.calls} calls" for each in rounds))
        for each, mischief, at in attempts:
            wrong, name = each.attempt(mischief, at), f"{each.scenario.name}/{mischief}/{at}"
            tried[mischief] += 1
            if wrong:
                bad.append({"repeat": f"--only {name}", "wrong": wrong})
                print(f"--only {name}: {wrong}", flush=True)
            if tried.total() % 100 == 0:
                print(f"{tried.total()} of {len(attempts)}", flush=True)
    print(", ".join(f"{mischief}: {count}" for mischief, count in tried.items()))
    print(f"tried {tried.total()}, bad {len(bad)}")
    if asked.out:
        ends = {"seed": asked.seed, "tried": tried.total(), "bad": bad, "mischiefs": tried}
        asked.out.write_text(json.dumps(ends, indent=2) + "\n")
    return int(bool(bad))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
