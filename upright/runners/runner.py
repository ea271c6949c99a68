"""What a runner is: it takes some seeds on, segment by segment, and tells what they did."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from upright.errors import UprightError
from upright.evaluation.episodes import Evaluation
from upright.evaluation.players import Episodes, Observer, Stopped
from upright.finding import Finding
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
    # steps that an evaluation may take, all its episodes together; beyond that it is given up
    evaluation_steps: int | None = None
    judge: Policy | None = None  # instead of all that: the final evaluation of this policy


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
    error: str | None = None  # how the environment failed, and where
    judged: Sequence[Evaluation] = ()  # of the final evaluation, unless it was cancelled


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


@runtime_checkable
class Judge(Protocol):
    """The final evaluation of a policy."""

    def __call__(
        self, policy: Policy, episodes: Episodes | None, observer: Observer, /
    ) -> Sequence[Evaluation]:
        """With the nominal physics and, where they are randomised, with these too.

        In the given environments, if there are some. Raises Stopped.
        """
        ...


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

    @property
    def judge(self) -> Judge:
        """For the policies of seeds that are in no group."""
        ...

    @property
    def noticed(self) -> tuple[Finding, ...]:
        """What is worth a warning of its environments."""
        ...

    def start(
        self,
        seeds: Sequence[int],
        states: States,
        observer: Observer | None = None,
    ) -> list[SeedGroup]:
        """Compiled and ready; seeds that have a state go on from it, the others begin.

        Segments end early when the observer says so.
        """
        ...

    def template(self) -> Any:
        """What a state looks like; an array of length 0 stands for one of any length."""
        ...

    def check(self, state: Any) -> None:
        """Raises ValueError unless a seed can go on from this state, which is like `template`."""
        ...


def judge_all(
    judge: Judge, segments: Mapping[int, Segment], episodes: Episodes | None, observer: Observer
) -> list[SegmentResult]:
    """Of the segments that are final evaluations."""
    results: list[SegmentResult] = []
    for seed, policy in ((seed, segment.judge) for seed, segment in segments.items()):
        if policy is None:
            continue
        judged: Sequence[Evaluation] = ()
        error = None
        with contextlib.suppress(Stopped):
            try:
                judged = judge(policy, episodes, observer)
            except UprightError as failure:
                error = f"in the final evaluation, {failure}"
        nothing = StepLog.unpack(np.zeros((0, StepLog.width(1, 0)), np.float32), 1)
        results.append(SegmentResult(seed, nothing, finite=True, judged=judged, error=error))
    return results


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
