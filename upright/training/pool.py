"""Threads in which groups of seeds go on, as many at a time as there are cores."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from upright.runners.runner import SeedGroup, Segment, SegmentResult, cores


class Pool:
    """Groups of seeds under way. A context: its threads and its environments end with it."""

    def __init__(self, groups: Sequence[SeedGroup], inline: bool = False):
        """`inline`: all in the calling thread, as windows want it."""
        self.groups = groups
        self._threads = _Inline() if inline else ThreadPoolExecutor(min(len(groups), cores()) or 1)

    def run(self, next_segment: Callable[[int], Segment | None]) -> Iterator[SegmentResult]:
        """Yields what the seeds did, whoever is ready first.

        `next_segment(seed)` is asked when the results of the seed's group were taken; a group ends
        when it is None for all of its seeds. What the caller does with a result, and in
        `next_segment`, happens while other groups work.
        """
        ready: SimpleQueue[tuple[SeedGroup, Future[list[SegmentResult]]]] = SimpleQueue()

        def submit(group: SeedGroup) -> bool:
            segments = {seed: s for seed in group.seeds if (s := next_segment(seed))}
            if segments:
                future = self._threads.submit(group.run, segments)
                future.add_done_callback(lambda done: ready.put((group, done)))
            return bool(segments)

        working = sum([submit(group) for group in self.groups])
        while working:
            group, future = ready.get()
            yield from future.result()
            working -= not submit(group)

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for group in self.groups:
            group.close()


class _Inline(Executor):
    """Does the work when it is given."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
