"""How far a training is, for a display."""

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np

from upright.evaluation.players import Observer
from upright.training.seed_run import SeedRun

_WATCH_SECONDS = 0.1  # between two calls of the watcher: a status looks at every seed


@dataclass(frozen=True)
class Status:
    """What a display shows while a training goes on."""

    phase: Literal["compiling", "training", "stopping", "judging"]
    fraction: float  # of the phase that is done
    steps: int = 0  # learned from, over all seeds
    budget: int | None = None  # of steps, over all seeds; None: it is one of episodes
    steps_per_second: float = 0.0
    all_learned: bool = False  # and the evaluation at the end of that is under way
    episodes: int = 0  # learned from, over all seeds
    # of evaluations in this phase, over all seeds
    evaluated_steps: int = 0
    evaluated_episodes: int = 0
    seconds_left: float | None = None  # of the phase
    median_return: float | None = None  # over seeds, of their last 20 episodes' means
    worst_return: float | None = None
    threshold: float | None = None  # mean return from which the task counts as solved
    solved: int = 0  # seeds whose kept policy reaches it
    seeds: int = 0


Watch = Callable[[Status], None]


class Progress(Observer):
    """Counts what threads do, and calls the watcher now and then."""

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
        self._cancelled = cancelled
        self.seconds = 0.0  # of the training, once it has ended
        self._started: float | None = None  # by the monotonic clock [s]
        self._shown = 0.0
        self._under_way = 0  # steps that were taken and are not counted by their seeds yet
        self._to_judge: int | None = None  # episodes, once that has begun
        self._evaluated_steps = 0
        self._evaluated_episodes = 0
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

    def start_judging(self, episodes: int) -> None:
        """The final evaluations begin, of so many episodes over all seeds."""
        self._started = time.monotonic()
        self._to_judge = episodes
        self._evaluated_steps = self._evaluated_episodes = 0
        self.watch(self.status())

    def cancelled(self) -> bool:
        return self._cancelled()

    def evaluated(self, steps: int, episodes: int) -> None:
        with self._lock:
            self._evaluated_steps += steps
            self._evaluated_episodes += episodes
        self.stepped(0)

    def stepped(self, steps: int) -> None:
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

    def status(self) -> Status:
        """Over all seeds, at this moment."""
        elapsed = max(time.monotonic() - (self._started or 0.0), 1e-3)
        judging = self._to_judge is not None
        fraction, before = self._fraction(), self._fraction_before
        if self._to_judge is not None:
            fraction, before = self._evaluated_episodes / max(self._to_judge, 1), 0.0
        returns = [np.mean(list(seed.returns)) for seed in self.seeds if seed.returns]
        budget = self.seeds[0].config.steps
        done = fraction - before
        return Status(
            phase="stopping" if self.cancelled() else "judging" if judging else "training",
            fraction=fraction,
            steps=self.steps + self._under_way,
            budget=budget and budget * len(self.seeds),
            steps_per_second=(self.new_steps + self._under_way) / elapsed,
            all_learned=fraction >= 1 and not self.seconds,
            episodes=sum(seed.episodes for seed in self.seeds),
            evaluated_steps=self._evaluated_steps,
            evaluated_episodes=self._evaluated_episodes,
            # All is learned: the evaluation that ends it takes as long as it takes.
            seconds_left=elapsed * (1 - fraction) / done if done > 0 and fraction < 1 else None,
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
