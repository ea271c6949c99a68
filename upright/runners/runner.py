"""What a runner is: it takes some seeds on, segment by segment, and tells what they did."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from upright.policy import Policy
from upright.spec import Spec

NO_LIMIT = 2**31 - 1  # of episodes


class StepLog(NamedTuple):
    """What is recorded of T ticks of one seed's E environments; in a tick each takes one step."""

    ended: Float[np.ndarray, "*T E"]  # 1 where an episode ended
    episode_return: Float[np.ndarray, "*T E"]  # so far, this step included
    episode_length: Float[np.ndarray, "*T E"]
    terminated: Float[np.ndarray, "*T E"]
    learned: Float[np.ndarray, "*T"]  # 1 where the agent learned
    metrics: Float[np.ndarray, "*T M"]  # of the agent; 0 where it did not learn

    @staticmethod
    def unpack(rows: Any, environments: int) -> "StepLog":
        """From packed rows [*T width]."""
        e = environments
        ended, total, length, terminated = (rows[..., i * e : (i + 1) * e] for i in range(4))
        return StepLog(ended, total, length, terminated, rows[..., 4 * e], rows[..., 4 * e + 1 :])

    def pack(self) -> NDArray[np.float32]:
        """Packed rows [*T width], for a file or to pass on."""
        *columns, learned, metrics = self
        parts = [*columns, learned[..., None], metrics]
        return np.concatenate(parts, axis=-1, dtype=np.float32)

    @staticmethod
    def width(environments: int, metrics: int) -> int:
        """Numbers of a packed row."""
        return 4 * environments + 1 + metrics


@dataclass(frozen=True)
class Segment:
    """What one seed shall do next."""

    steps: int  # of all its environments, at most; a multiple of their number; 0: none
    episodes: int = NO_LIMIT  # stop when so many are finished in all
    evaluate: bool = False  # afterwards, if all steps were taken
    save: bool = False  # hand out the state afterwards


@dataclass(frozen=True)
class SegmentResult:
    """What one seed did."""

    seed: int
    log: StepLog  # of the ticks taken
    # False: a metric of the last tick is not finite, or a parameter when it came to be evaluated
    finite: bool
    policy: Policy | None = None  # greedy, if it was evaluated
    returns: NDArray[np.floating[Any]] | None = None  # [evaluation episode]
    state: Any = None  # everything, as a tree of NumPy arrays, if asked to save
    error: str | None = None  # the environment failed in the step after the last one of the log


@runtime_checkable
class SeedGroup(Protocol):
    """Some seeds that go on together, in one thread at a time."""

    seeds: tuple[int, ...]
    irreproducible: list[int]  # whose environment, brought back, did not do the same again

    def run(self, segments: Mapping[int, Segment]) -> list[SegmentResult]:
        """In the order of the seeds; all limits of episodes must be the same.

        A seed may do fewer steps than asked for; one without a segment rests.
        """
        ...

    def close(self) -> None:
        """Ends its environments."""
        ...


States = Mapping[int, Any]  # of seeds: the tree of a `SegmentResult`
OnProgress = Callable[[int], None]  # so many steps were taken; from any thread
Cancelled = Callable[[], bool]  # whether to end segments early; from any thread


@runtime_checkable
class Runner(Protocol):
    """A way to bring agent and task together."""

    @property
    def spec(self) -> Spec:
        """What the task looks like from outside."""
        ...

    @property
    def inline(self) -> bool:
        """All work in the calling thread, as windows want it."""
        ...

    def start(
        self,
        seeds: Sequence[int],
        states: States,
        on_progress: OnProgress = lambda steps: None,
        cancelled: Cancelled = lambda: False,
    ) -> list[SeedGroup]:
        """Compiled and ready; seeds that have a state go on from it, the others begin."""
        ...

    def template(self) -> Any:
        """What a state looks like; an array of length 0 stands for one of any length."""
        ...


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
