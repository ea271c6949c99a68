"""Ctrl-C that loses nothing."""

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn, ParamSpec

from upright.runs import Run

P = ParamSpec("P")


class Interrupted(KeyboardInterrupt):
    """A training was interrupted, by Ctrl-C or a signal; all that it learned is in its `run`."""

    def __init__(self, run: Run, number: int):
        """`number`: of the signal."""
        self.run = run
        self.number = number
        super().__init__(_message(run))

    def follow(self) -> NoReturn:
        """Does what this signal does where nobody trains: SIGTERM ends the process.

        Where it does not, and for Ctrl-C, raises KeyboardInterrupt with the run as its `run`. It is
        that class itself: only then an interpreter that ends by it tells the shell so.
        """
        if signal.getsignal(self.number) not in (signal.default_int_handler, signal.SIG_IGN):
            print(f"upright: {self}", file=sys.stderr, flush=True)
            signal.raise_signal(self.number)
        end = KeyboardInterrupt(str(self))
        vars(end)["run"] = self.run
        raise end


def ended(train: Callable[P, Run]) -> Callable[P, Run]:
    """The same training, which returns its run when it was interrupted, too."""

    def ended(*arguments: P.args, **keywords: P.kwargs) -> Run:
        try:
            return train(*arguments, **keywords)
        except Interrupted as end:
            return end.run

    return ended


class Interrupt:
    """A context in which the first Ctrl-C is noted instead of raised; so are SIGTERM and SIGHUP.

    The second one is raised as KeyboardInterrupt. Outside of the main thread, where Python allows
    no signal handlers, nothing is caught.
    """

    def __init__(self, noticed: Callable[[], None] = lambda: None):
        """`noticed` is called once, in a thread of its own: say that the wish was heard."""
        self.number: int | None = None  # of the signal that was noted
        self.run: Path | None = None  # that is under way
        self._noticed = noticed
        self._previous: dict[signal.Signals, object] = {}

    @property
    def requested(self) -> bool:
        """Whether one was noted."""
        return self.number is not None

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
            # None: one that was not made by Python, and cannot be brought back by it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # pyright: ignore[reportArgumentType]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.number = number
        # Not here: a handler may have interrupted the very code that this calls.
        threading.Thread(target=self._noticed).start()


def _message(run: Run) -> str:
    if run.status == "finished":
        return f"interrupted; {run.path} is finished"
    task = run.info.config.task
    again = f", task={task!r}" if ":" in task else ""
    return (
        f"interrupted; {run.path} holds all that was learned, go on with:"
        f" upright.resume({str(run.path)!r}{again})"
    )
