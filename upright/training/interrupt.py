"""Ctrl-C that loses nothing."""

import signal
import threading
from types import FrameType


class Interrupt:
    """A context in which the first Ctrl-C (or SIGTERM) is noted instead of raised.

    The second one is raised as KeyboardInterrupt. Outside of the main thread, where Python allows
    no signal handlers, nothing is caught.
    """

    _signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "Interrupt":
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._previous = [signal.signal(number, self._note) for number in self._signals]
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            for number, handler in zip(self._signals, self._previous, strict=True):
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
