"""What is known of a training at some moment: of each seed, and for a display."""

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from upright.policy import Policy


@dataclass(frozen=True)
class Status:
    """What a display shows while a training goes on."""

    phase: Literal["compiling", "training", "stopping", "judging"]
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


@dataclass
class SeedRecord:
    """How far one seed is, and the policies that it leaves."""

    seed: int
    state: Literal["running", "finished", "interrupted", "diverged", "failed"] = "running"
    steps: int = 0
    episodes: int = 0
    written: int = 0  # steps whose rows are in the CSV files
    # returns of the latest episodes
    returns: deque[float] = field(default_factory=lambda: deque[float](maxlen=20))
    kept: Policy | None = None  # best by evaluation, of equal ones the latest
    last: Policy | None = None  # latest one evaluated
    error: str | None = None  # why it failed
    waiting: list[NDArray[np.float32]] = field(default_factory=list[NDArray[np.float32]])

    @property
    def evaluated(self) -> bool:
        """At the present step."""
        return self.last is not None and self.last.provenance.step == self.steps

    @property
    def kept_return(self) -> float:
        return self.rank()[0]

    def rank(self) -> tuple[float, int]:
        """Of the kept policy among those of all seeds: mean return, step. It never falls."""
        if self.kept is None:
            return -np.inf, 0
        provenance = self.kept.provenance
        assert provenance.evaluation is not None
        return provenance.evaluation.mean_return, provenance.step

    def summary(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "seed": self.seed,
            "state": self.state,
            "steps": self.steps,
            "episodes": self.episodes,
            "kept": asdict(self.kept.provenance) if self.kept else None,
            "last": asdict(self.last.provenance) if self.last else None,
            **({"error": self.error} if self.error else {}),
        }
