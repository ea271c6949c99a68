"""Ctrl-C that loses nothing."""

import signal
import threading
from collections.abc import Callable
from types import FrameType


class Interrupt:
    """A context in which the first Ctrl-C is noted instead of raised; so are SIGTERM and SIGHUP.

    The second one is raised as KeyboardInterrupt. Outside of the main thread, where Python allows
    no signal handlers, nothing is caught.
    """

    def __init__(self, noticed: Callable[[], None] = lambda: None):
        """`noticed` is called once, in a thread of its own: say that the wish was heard."""
        self.requested = False
        self._noticed = noticed
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # there is no SIGHUP on Windows
                # What the user told to be ignored (nohup) stays ignored.
                if number and signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        # Not here: a handler may have interrupted the very code that this calls.
        threading.Thread(target=self._noticed).start()
