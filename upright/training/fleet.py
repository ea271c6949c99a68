"""Many seeds under way: who works when, and in which order the results come."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from upright.agents import dqn
from upright.spec import Spec


class Step(NamedTuple):
    """What is recorded of one step: one row of numbers, or the columns of many."""

    ended: Float[Array, "*T"]  # 1 where an episode ended
    episode_return: Float[Array, "*T"]  # so far, this step included
    episode_length: Float[Array, "*T"]
    terminated: Float[Array, "*T"]
    loss: Float[Array, "*T"]  # mean over the gradient steps; 0 during warm-up
    q_mean: Float[Array, "*T"]


NO_LIMIT = 2**31 - 1  # of episodes


@dataclass(frozen=True)
class Order:
    """What one seed shall do next."""

    steps: int  # at most; 0: none
    episodes: int  # stop when so many are finished in all
    evaluate: bool  # afterwards, if all steps were taken


@dataclass(frozen=True)
class Result:
    """What one seed did."""

    seed: int
    log: NDArray[np.float32]  # [steps taken, columns of Step]
    healthy: bool  # False: the last step's loss, or a parameter after it, is not finite
    agent: dqn.State  # NumPy arrays of its own
    returns: NDArray[np.floating[Any]] | None  # [evaluation episode], if ordered
    error: str | None = None  # the environment failed in the step after the last one of the log


@runtime_checkable
class Crew(Protocol):
    """Some seeds that go on together, in one thread at a time."""

    seeds: tuple[int, ...]
    strays: list[int]  # whose environment, on going on from a state, did not do the same again

    def work(self, orders: Mapping[int, Order]) -> list[Result]:
        """Carries out the orders, in the order of the seeds; those for episodes must be the same.

        A seed may do fewer steps than ordered; one without an order does none.
        """
        ...

    def states(self) -> dict[int, Any]:
        """Everything about each seed, as a tree of NumPy arrays."""
        ...

    def close(self) -> None: ...


States = Mapping[int, Any]  # of each seed: the tree that `Crew.states` gave
# Called between steps that may take long, with the number of steps since the last call; True ends
# the work early.
Pulse = Callable[[int], bool]


@runtime_checkable
class Driver(Protocol):
    """A way to bring agent and task together."""

    @property
    def spec(self) -> Spec: ...

    @property
    def inline(self) -> bool:
        """All work in the calling thread."""
        ...

    def crews(self, seeds: Sequence[int], states: States | None, pulse: Pulse) -> list[Crew]:
        """Compiled and ready to go on from the states, or to begin."""
        ...

    def template(self) -> Any:
        """What a state looks like; an array of length 0 stands for one of any length."""
        ...


class Fleet:
    """Crews under way. A context: its threads and its environments end with it."""

    def __init__(self, crews: Sequence[Crew], inline: bool = False):
        """`inline`: all in the calling thread, as windows want it."""
        self.crews = crews
        self._pool = _Inline() if inline else ThreadPoolExecutor(min(len(crews), cores()))

    def run(
        self, next_order: Callable[[int], Order | None], turn: Callable[[int], Any] = lambda _: 0
    ) -> Iterator[Result]:
        """Yields what the seeds did, round after round, in the order of the crews.

        `turn(seed)` of a crew's first seed: what the crews are sorted by.
        `next_order(seed)` is asked after the results of the seed's last order were taken; None: it
        rests until the next call of `run`.
        """
        queue = deque(sorted(self.crews, key=lambda crew: turn(crew.seeds[0])))
        futures = {crew.seeds: self._submit(crew, next_order) for crew in queue}
        while queue:
            crew = queue.popleft()
            future = futures[crew.seeds]
            if future is not None:
                yield from future.result()
                futures[crew.seeds] = self._submit(crew, next_order)
                queue.append(crew)

    def states(self) -> dict[int, Any]:
        """Everything about each seed, as trees of NumPy arrays; only while all rest."""
        return {seed: state for crew in self.crews for seed, state in crew.states().items()}

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for crew in self.crews:
            crew.close()

    def _submit(
        self, crew: Crew, next_order: Callable[[int], Order | None]
    ) -> Future[list[Result]] | None:
        orders = {seed: order for seed in crew.seeds if (order := next_order(seed))}
        return self._pool.submit(crew.work, orders) if orders else None


class _Inline(Executor):
    """Does the work when it is given."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
