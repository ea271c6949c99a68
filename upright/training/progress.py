"""How far a training is, for a display."""

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np

from upright.training.seed_run import SeedRun

_WATCH_SECONDS = 0.1  # between two calls of the watcher: a status looks at every seed


@dataclass(frozen=True)
class Status:
    """What a display shows while a training goes on."""

    phase: Literal["compiling", "training", "stopping", "evaluating"]
    fraction: float  # of the phase that is done
    steps: int = 0  # over all seeds
    steps_per_second: float = 0.0
    seconds_left: float | None = None
    median_return: float | None = None  # over seeds, of their last 20 episodes' means
    worst_return: float | None = None
    threshold: float | None = None  # mean return from which the task counts as solved
    solved: int = 0  # seeds whose kept policy reaches it
    seeds: int = 0


Watch = Callable[[Status], None]


class Progress:
    """Counts the steps that threads take, and calls the watcher now and then."""

    def __init__(
        self,
        seeds: Sequence[SeedRun],
        threshold: float | None,
        watch: Watch,
        cancelled: Callable[[], bool],
    ):
        self.seeds = seeds
        self.threshold = threshold
        self.watch = watch
        self.cancelled = cancelled
        self.seconds = 0.0  # of the training, once it has ended
        self._started: float | None = None  # by the monotonic clock [s]
        self._shown = 0.0
        self._under_way = 0  # steps that were taken and are not counted by their seeds yet
        self._lock = threading.Lock()
        self._steps_before = self.steps
        self._fraction_before = self._fraction()

    @property
    def steps(self) -> int:
        """Counted ones, over all seeds."""
        return sum(seed.steps for seed in self.seeds)

    @property
    def new_steps(self) -> int:
        """Steps that this process took, over all seeds."""
        return self.steps - self._steps_before

    def start(self) -> None:
        """The training begins now."""
        self._started = time.monotonic()

    def stop(self) -> None:
        """It has ended: its last status."""
        assert self._started is not None
        self.seconds = time.monotonic() - self._started
        self.watch(self.status())
        self._shown = 0.0  # what comes next is shown at once

    def add(self, steps: int) -> None:
        """So many were taken by somebody. From any thread."""
        status = None
        with self._lock:
            self._under_way += steps
            if self._started and time.monotonic() - self._shown >= _WATCH_SECONDS:
                self._shown = time.monotonic()
                status = self.status()
        if status:
            self.watch(status)

    @contextmanager
    def counting(self, steps: int) -> Generator[None]:
        """In this context a seed counts so many of them."""
        with self._lock:
            self._under_way -= steps
            yield

    def evaluating(self, fraction: float) -> None:
        """Shows that so much of the final evaluation is done."""
        if time.monotonic() - self._shown >= _WATCH_SECONDS:
            self._shown = time.monotonic()
            self.watch(Status("evaluating", fraction))

    def status(self) -> Status:
        """Over all seeds, at this moment."""
        elapsed = max(time.monotonic() - (self._started or 0.0), 1e-3)
        fraction = self._fraction()
        done = fraction - self._fraction_before
        returns = [np.mean(list(seed.returns)) for seed in self.seeds if seed.returns]
        return Status(
            phase="stopping" if self.cancelled() else "training",
            fraction=fraction,
            steps=self.steps + self._under_way,
            steps_per_second=(self.new_steps + self._under_way) / elapsed,
            seconds_left=elapsed * (1 - fraction) / done if done > 0 else None,
            median_return=float(np.median(returns)) if returns else None,
            worst_return=float(np.min(returns)) if returns else None,
            threshold=self.threshold,
            solved=sum(seed.solves(self.threshold) for seed in self.seeds),
            seeds=len(self.seeds),
        )

    def _fraction(self) -> float:
        """Of the budgets of all seeds that is used up."""
        fraction = float(np.mean([seed.fraction for seed in self.seeds]))
        if steps := self.seeds[0].config.steps:
            fraction = min(1.0, fraction + self._under_way / (steps * len(self.seeds)))
        return fraction
