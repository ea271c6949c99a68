"""What the commands print: live progress and tables."""

import itertools
import math
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from upright.cli import words
from upright.evaluation.episodes import Evaluation
from upright.policy import Policy

if TYPE_CHECKING:
    from upright.diagnosis import Report
    from upright.training.progress import Status


class _Plain(Console):
    """Text as it is: a name from a stranger's file is no markup."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, highlight=False, soft_wrap=True, **options)

    def on_broken_pipe(self) -> None:
        """Whoever read our progress has left: that is no reason to end a training."""
        self.quiet = True


# Where output goes into a file there is no width to keep to, and a table must not lose columns.
out = _Plain(width=None if sys.stdout.isatty() else 1000)
_progress = _Plain(stderr=True)
_MOST_CHANNELS = 24  # rows of a table that somebody still reads
_PLAIN_SECONDS = 5.0  # between two lines of progress where there is no terminal


class Steps:
    """A bar for work in equal steps; nothing where there is no terminal."""

    def __init__(self, title: str, total: int, quiet: bool = False):
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            console=_progress,
            transient=True,
            disable=quiet or not _progress.is_terminal,
        )
        self._task = self._bar.add_task(title, total=total)

    def advance(self) -> None:
        self._bar.advance(self._task)

    def __enter__(self) -> "Steps":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


class Phases:
    """What is being done; nothing where there is no terminal."""

    def __init__(self, quiet: bool = False):
        self._quiet = quiet or not _progress.is_terminal
        self._line = _progress.status("")

    def update(self, phase: str, fraction: float) -> None:
        self._line.update(f"{phase} {fraction:.0%}" if fraction else phase)

    def __enter__(self) -> "Phases":
        if not self._quiet:
            self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._line.stop()


class Training:
    """Live progress of a training: a bar on a terminal, else a line every few seconds."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), console=_progress
        )
        self._task = self._bar.add_task("", total=1.0)
        self._live = Live(console=_progress, transient=True, refresh_per_second=5)
        self._printed = -_PLAIN_SECONDS
        self._phase = ""

    def update(self, status: "Status") -> None:
        text = _describe(status)
        if _progress.is_terminal:
            self._bar.update(self._task, description=status.phase, completed=status.fraction)
            grid = Table.grid()
            grid.add_row(self._bar)
            grid.add_row(text)
            self._live.update(grid)
        elif status.phase != self._phase or time.monotonic() - self._printed >= _PLAIN_SECONDS:
            self._printed, self._phase = time.monotonic(), status.phase
            _progress.print(f"{status.phase} {status.fraction:4.0%}  {text}")

    def __enter__(self) -> "Training":
        if _progress.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


def _describe(status: "Status") -> str:
    if status.phase != "training":
        return {
            "compiling": "the first time takes a few seconds; then it is kept",
            "stopping": "in order; a second Ctrl-C would lose what is not written yet",
            "evaluating": "greedy episodes of every kept policy in Gymnasium",
        }[status.phase]
    parts = [f"{status.steps / 1000:,.0f}k steps", f"{status.steps_per_second / 1000:.1f}k/s"]
    if status.median_return is not None and status.worst_return is not None:
        returns = number(status.median_return), number(status.worst_return)
        parts.append("return {}, worst {}".format(*returns))
    if status.threshold is not None:
        parts.append(f"kept solves {status.solved}/{status.seeds}")
    if status.seconds_left is not None:
        parts.append(f"{_clock(status.seconds_left)} left")
    return "  ".join(parts)


def number(value: float) -> str:
    """A return: large ones with one decimal, small ones with three digits that count."""
    return f"{value:.1f}" if abs(value) >= 10 or value == 0 else f"{value:.3g}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


def print_report(report: "Report") -> None:
    """A line for each finding, its fix beneath, and the count."""
    styles = {"problem": "bold red", "advice": "yellow", "fine": "green"}
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column()
    table.add_column(overflow="fold")
    for finding in report.findings:
        severity = Text(finding.severity, style=styles[finding.severity])
        table.add_row(severity, finding.check, finding.seen)
        if finding.fix:
            table.add_row("", "", Text(f"fix: {finding.fix}", style="bold"))
    out.print(table)
    counts = Counter(finding.severity for finding in report.findings)
    problems = f"{counts['problem']} problem{'' if counts['problem'] == 1 else 's'}"
    out.print(f"{report.task}: {problems}, {counts['advice']} advice, {counts['fine']} fine")


def print_evaluations(
    kind: str,
    policies: Mapping[str, Policy],
    evaluations: Mapping[str, Evaluation],
    title: str | None = None,
) -> None:
    """A row for each policy; below it the average and the worst of many."""
    table = new_table(title)
    table.add_column(kind)
    for column in ("trained steps", "mean return", "worst return", "reset seed of the worst"):
        table.add_column(column, justify="right")
    for name, evaluation in evaluations.items():
        summary = evaluation.summary()
        table.add_row(
            name,
            f"{policies[name].provenance.step:,}",
            number(summary["mean_return"]),
            number(summary["worst_return"]),
            str(summary["worst_reset_seed"]),
        )
    out.print(table)
    print_over_seeds([evaluation.summary() for evaluation in evaluations.values()], title)


def print_over_seeds(summaries: Sequence[Mapping[str, Any]], physics: str | None = None) -> None:
    """The average and the worst of many; `physics` where they are not the task's own."""
    if len(summaries) > 1:
        means = [summary["mean_return"] for summary in summaries]
        where = physics or "in Gymnasium"
        out.print(
            f"{len(summaries)} seeds, {summaries[0]['episodes']} episodes each, {where}:"
            f" mean return {sum(means) / len(means):.1f}, worst seed {min(means):.1f},"
            f" worst episode {min(summary['worst_return'] for summary in summaries):.0f}"
        )


def print_policy(policy: Policy) -> None:
    """What goes in, what comes out, where it comes from."""
    spec, provenance = policy.spec, policy.provenance
    print_pairs(
        {
            "task": spec.task,
            "network": f"{'-'.join(map(str, policy.sizes))}, ReLU, {policy.head}",
            "action": words.action(spec),
            "trained by": f"{provenance.agent}, seed {provenance.seed}, step {provenance.step}",
            "physics": words.physics(provenance),
            "evaluation": words.score(provenance.evaluation),
        }
    )
    table = new_table(title="observation")
    table.add_column("name")
    for column in ("unit", "lower limit", "upper limit", "minus", "divided by"):
        table.add_column(column, justify="right")
    columns = zip(spec.observation.channels, policy.offset, policy.scale, strict=True)
    for channel, offset, scale in itertools.islice(columns, _MOST_CHANNELS):
        ends = (channel.terminates_below, channel.terminates_above)
        limits = ("-" if math.isinf(limit) else f"{limit:.4g}" for limit in ends)
        table.add_row(channel.name, channel.unit, *limits, f"{offset:.4g}", f"{scale:.4g}")
    if spec.observation_size > _MOST_CHANNELS:
        table.add_row(f"and {spec.observation_size - _MOST_CHANNELS} more")
    out.print(table)


def new_table(title: str | None = None) -> Table:
    """Empty, in our style."""
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)


def print_pairs(pairs: Mapping[str, str]) -> None:
    """A name and a value on each line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(name, value)
    out.print(table)
