"""Live progress of a training, on a terminal, in a notebook or in lines of text."""

import contextlib
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from upright.errors import UprightError, shown, visible

if TYPE_CHECKING:
    from upright.training.progress import Status

_PLAIN_SECONDS = 5.0  # between two lines of progress where there is no terminal


class Plain(Console):
    """Text as it is: a name from a stranger's file is no markup and moves no cursor."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, highlight=False, soft_wrap=True, **options)

    def render_str(self, text: str, **options: Any) -> Text:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().render_str(visible(text), **options)

    def on_broken_pipe(self) -> None:
        """Whoever read our progress has left: that is no reason to end a training."""
        self.quiet = True


class Careless:
    """Standard error, for progress: a full disk behind it is no reason to end a training."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


class Training:
    """A bar on a terminal and in a notebook, else a line every few seconds."""

    def __init__(self, lines: bool = True) -> None:
        """`lines`: also where nobody may be looking, as in a file."""
        self._console = Plain(file=Careless())
        terminal, notebook = self._console.is_terminal, self._console.is_jupyter
        self._is_live = terminal or (notebook and find_spec("ipywidgets") is not None)
        self._lines = not self._is_live and (lines or notebook)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task("", total=1.0)
        self._live = Live(console=self._console, transient=True, refresh_per_second=5)
        self._printed = -_PLAIN_SECONDS
        self._phase = ""

    def update(self, status: "Status") -> None:
        if self._is_live:
            self._bar.update(self._task, description=status.phase, completed=status.fraction)
            grid = Table.grid()
            grid.add_row(self._bar)
            grid.add_row(_describe(status))
            self._live.update(grid)
        elif self._lines and self._is_due(status):
            self._printed, self._phase = time.monotonic(), status.phase
            self._console.print(f"{status.phase} {status.fraction:4.0%}  {_describe(status)}")

    def _is_due(self, status: "Status") -> bool:
        return status.phase != self._phase or time.monotonic() - self._printed >= _PLAIN_SECONDS

    def __enter__(self) -> "Training":
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


@contextmanager
def watching(watch: Any) -> Generator[Callable[["Status"], None]]:
    """What a training calls with its status, where the user gave `watch`.

    "auto": shows it on a terminal and in a notebook; None: nothing. Raises UprightError for what
    cannot be called.
    """
    if watch == "auto":
        with Training(lines=False) as display:
            yield display.update
        return
    if watch is not None and not callable(watch):
        raise UprightError(
            f"watch is {shown(watch)}; it must be a function of a Status, 'auto', or None"
        )
    given: Any = watch or _nothing
    yield given


def _nothing(status: "Status") -> None:
    """Shows it nowhere."""


def _describe(status: "Status") -> str:
    if status.phase in ("compiling", "stopping"):
        return {
            "compiling": "the first time takes a few seconds; then it is kept",
            "stopping": "in order; a second Ctrl-C would lose what is not written yet",
        }[status.phase]
    episodes = "episode" if status.evaluated_episodes == 1 else "episodes"
    evaluated = f"{status.evaluated_episodes:,} {episodes}, {status.evaluated_steps:,} steps"
    if status.phase == "judging":
        parts = [f"the best policy of each seed: {evaluated}"]
    else:
        of = f"/{status.budget:,}" if status.budget else f", {status.episodes:,} episodes"
        rate = f"{status.steps_per_second:,.0f}/s"
        if status.all_learned:
            rate = "all learned, the last evaluation is under way"
        parts = [f"{status.steps:,}{of} steps", rate]
        if status.evaluated_steps:
            parts.append(f"evaluated {evaluated}")
        if status.median_return is not None and status.worst_return is not None:
            returns = number(status.median_return), number(status.worst_return)
            parts.append("return {}, worst {}".format(*returns))
        if status.threshold is not None:
            parts.append(f"solved by the best policy: {status.solved}/{status.seeds} seeds")
    if status.seconds_left is not None:
        parts.append(f"{_clock(status.seconds_left)} left")
    return "  ".join(parts)


def number(value: float) -> str:
    """A return: large ones with one decimal, small ones with three digits that count."""
    if abs(value) >= 1e9:
        return f"{value:.4g}"
    return f"{value:.1f}" if abs(value) >= 10 or value == 0 else f"{value:.3g}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"
