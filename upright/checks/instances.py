"""Instances: whether several can live at a time, in any thread, and what it costs to make one."""

import gc
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from upright import machine
from upright.bridge.flat import Flat
from upright.bridge.values import EnvironmentFailedError
from upright.calling import option
from upright.checks.determinism import Rows, difference, rows
from upright.errors import UprightError, kind_and_text
from upright.finding import Finding

_STEPS = 50  # of an episode
_PATIENCE = 120.0  # with another thread [s]
_LONG = 60.0  # of making all instances of a training [s]
_MUCH = 0.5  # of the machine's memory

Make = Callable[[], Flat]


@dataclass(frozen=True)
class Cost:
    """Of making one instance."""

    seconds: float
    memory: int  # more that the process holds [bytes]; roughly, and 0 where that is not known


@dataclass(frozen=True)
class Two:
    """Two instances at a time."""

    made: bool = False  # the second one could be made
    cost: Cost | None = None  # of the second one
    played: tuple[Rows, ...] = ()  # the beginning of an episode of each
    error: str = ""


def make_timed(make: Make) -> tuple[Flat, Cost]:
    """An instance, and what it took."""
    gc.collect()
    before, begin = _memory(), time.perf_counter()
    env = make()
    return env, Cost(time.perf_counter() - begin, max(0, _memory() - before))


def play_two(make: Make, seed: int) -> Two:
    """The first episodes of `determinism.play`, in two instances a step each in turn.

    Whatever goes wrong is in the result.
    """
    made, cost, played = False, None, ()
    try:
        with closing(make()) as one:
            other, cost = make_timed(make)
            made = True
            with closing(other):
                both = list(zip_longest(rows(one, seed, _STEPS), rows(other, seed + 1, _STEPS)))
        sides = zip(*both, strict=True)
        played = tuple(np.stack([row for row in side if row is not None]) for side in sides)
    except (Exception, SystemExit) as error:  # the environment's own code
        return Two(made, cost, error=_text(error))
    return Two(made, cost, played)


def check_two(alone: list[Rows], together: Two) -> Finding:
    """`alone`: of `determinism.play`."""
    name = "two at a time"
    if not together.made:
        seen = f"a second environment cannot be made while one lives: {together.error}"
        return Finding(name, "problem", seen, one_alone())
    differs = together.error or difference(alone[:2], list(together.played))
    if differs:
        what = f"two environments stepped in turn are not independent: {differs}"
        fix = "keep all of the simulator's state in self, a client of its own for each"
        return Finding(name, "problem", what, f"{fix}; or {one_alone()}")
    return Finding(name, "fine", "two environments stepped in turn do what each does alone")


def in_thread(work: Callable[[], object]) -> str:
    """Does it in a fresh thread; what went wrong there, or nothing."""
    errors: list[str] = []

    def guarded() -> None:
        try:
            work()
        except (Exception, SystemExit) as error:  # the environment's own code
            errors.append(_text(error))

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    if thread.is_alive():
        return f"it did not come back within {_PATIENCE:.0f} s"
    return "".join(errors)


def play_once(env: Flat, seed: int) -> None:
    """The beginning of an episode."""
    for _ in rows(env, seed, _STEPS):
        pass


def play_elsewhere(make: Make, seed: int) -> None:
    """All that becomes of an instance: made, played and closed."""
    with closing(make()) as env:
        play_once(env, seed)


def check_threads(elsewhere: str, handed: str) -> Finding:
    """What went wrong when all was done in another thread; and when only the steps were."""
    name = "threads"
    if elsewhere:
        fix = f"{one_alone()}: all is then done in the main thread"
        return Finding(name, "problem", f"works in the main thread alone: {elsewhere}", fix)
    if handed:
        seen = f"belongs to the thread that made it, to which training keeps ({handed})"
        return Finding(name, "fine", seen)
    return Finding(name, "fine", "works in another thread, too")


def check_cost(cost: Cost, count: int) -> Finding:
    """`count`: instances that a training makes."""
    name = "making"
    all_seconds, all_memory = count * cost.seconds, count * cost.memory
    seen = f"one environment takes {_duration(cost.seconds)} and {_size(cost.memory)}"
    if count > 1:
        seen += f", {count} take {_duration(all_seconds)} and {_size(all_memory)}"
    there = machine.memory()
    if all_seconds > _LONG or (there and all_memory > _MUCH * there):
        fewer = f"fewer {option('seeds')} at a time"
        fix = f"load once, for all of them, what is slow or large; or {fewer}"
        return Finding(name, "advice", seen, fix)
    return Finding(name, "fine", seen)


def one_alone() -> str:
    """What to do with an environment that bears no other one."""
    return f"train one seed with {option('environments', 'one')}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.1 else "less than 0.1 s"


def _size(memory: int) -> str:
    if memory < 2**20:
        return "less than 1 MiB"
    return f"{memory / 2**20:.0f} MiB" if memory < 2**30 else f"{memory / 2**30:.1f} GiB"


def _memory() -> int:
    """What this process holds [bytes]; 0 where the system does not say it as Linux does."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _text(error: BaseException) -> str:
    if isinstance(error, EnvironmentFailedError):
        return error.what
    return str(error) if isinstance(error, UprightError) else kind_and_text(error)
