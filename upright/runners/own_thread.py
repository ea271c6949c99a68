"""Groups of seeds that each live in a thread of their own."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from upright.runners.runner import SeedGroup, Segment, SegmentResult

T = TypeVar("T")


class OwnThread:
    """A group that is made, run and closed in one thread.

    Environments may mind (a database, a serial port, an event loop): whoever makes one steps it.
    """

    def __init__(self, make: Callable[[], SeedGroup]):
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="environments")
        try:
            self._group = self._do(make)
        except BaseException:
            self._thread.shutdown()
            raise
        self.seeds = self._group.seeds
        self.irreproducible = self._group.irreproducible

    def run(self, segments: Mapping[int, Segment]) -> list[SegmentResult]:
        """As `SeedGroup.run`; the calling thread waits."""
        return self._do(self._group.run, segments)

    def close(self) -> None:
        """Ends its environments and the thread."""
        try:
            self._do(self._group.close)
        finally:
            self._thread.shutdown()

    def _do(self, work: Callable[..., T], *arguments: Any) -> T:
        return self._thread.submit(work, *arguments).result()
