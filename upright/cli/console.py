"""What the commands print: live progress and tables."""

import itertools
import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from upright.cli import words
from upright.errors import visible
from upright.evaluation.episodes import Evaluation
from upright.evaluation.players import Observer
from upright.policy import Policy
from upright.training.display import Careless, Plain
from upright.training.display import Training as Training

if TYPE_CHECKING:
    from upright.diagnosis import Report


class Output(Plain):
    """Standard output. In a file there is no width to keep to, and no line to be filled up."""

    def __init__(self) -> None:
        super().__init__(width=None if sys.stdout.isatty() else 1000)

    def print(self, *objects: Any, **options: Any) -> None:
        if self.is_terminal:
            super().print(*objects, **options)
            return
        with self.capture() as captured:
            super().print(*objects, **options)
        lines = captured.get().split("\n")
        sys.stdout.write("\n".join(line.rstrip() for line in lines))

    def say(self, sentence: str) -> None:
        """Broken between words where the terminal is narrow; nothing in it is to be copied."""
        self.print(sentence, soft_wrap=False)


out = Output()
_progress = Plain(file=Careless())
_BAR_SECONDS = 0.1  # between two looks of a bar: it takes longer than a step
_WIDEST = 10_000  # characters: any table as it would like to be
_MOST_CHANNELS = 24  # rows of a table that somebody still reads


class Evaluating(Observer):
    """A bar for the episodes of evaluations; nothing where there is no terminal."""

    def __init__(self, episodes: int, quiet: bool = False):
        """`episodes`: of all policies."""
        self._bar = Progress(
            TextColumn("evaluating"),
            BarColumn(),
            TextColumn("{task.completed:,}/{task.total:,} episodes  {task.fields[steps]:,} steps "),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=_progress,
            transient=True,
            disable=quiet or not _progress.is_terminal,
        )
        self._task = self._bar.add_task("", total=episodes, steps=0)
        self._steps = self._episodes = 0
        self._shown = 0.0  # when [s]

    def evaluated(self, steps: int, episodes: int) -> None:
        self._steps += steps
        self._episodes += episodes
        if not self._bar.disable and time.monotonic() - self._shown >= _BAR_SECONDS:
            self._shown = time.monotonic()
            self._bar.update(self._task, completed=self._episodes, steps=self._steps)

    def __enter__(self) -> "Evaluating":
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
            table.add_row("", "", Text(f"fix: {visible(finding.fix)}", style="bold"))
    out.print(table)
    out.say(report.summary)


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
            words.number(summary["mean_return"]),
            words.number(summary["worst_return"]),
            str(summary["worst_reset_seed"]),
        )
    print_table(table)
    print_over_seeds([evaluation.summary() for evaluation in evaluations.values()], title)


def print_over_seeds(summaries: Sequence[Mapping[str, Any]], physics: str | None = None) -> None:
    """The average and the worst of many; `physics` where they are not the task's own.

    And how many episodes would not end.
    """
    if cut := sum(summary["cut_episodes"] for summary in summaries):
        episodes = words.count(sum(summary["episodes"] for summary in summaries), "episode")
        out.say(f"{cut:,} of {episodes} had no end and were cut off: see --max-steps")
    if len(summaries) > 1:
        means = [summary["mean_return"] for summary in summaries]
        where = physics or "in Gymnasium"
        worst = min(summary["worst_return"] for summary in summaries)
        out.say(
            f"{len(summaries)} seeds, {words.count(summaries[0]['episodes'], 'episode')} each,"
            f" {where}: mean return {words.number(sum(means) / len(means))}, worst seed"
            f" {words.number(min(means))}, worst episode {words.number(worst)}"
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
    print_table(table)


def new_table(title: str | None = None) -> Table:
    """Empty, in our style; `print_table` prints it."""
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)


def print_table(table: Table) -> None:
    """No word is broken and no column left out: if need be a line for each cell."""
    widths = _fit(table)
    if widths:
        for column, width in zip(table.columns, widths, strict=True):
            column.width = width
        out.print(table)
        return
    out.say(f"{table.title or ''}")
    for row in zip(*(column.cells for column in table.columns), strict=True):
        names = [str(column.header) for column in table.columns]
        print_pairs({name: str(cell) for name, cell in zip(names, row, strict=True) if cell})
        out.print()


def _fit(table: Table) -> list[int] | None:
    """Widths of the columns with which every word has room; None if the terminal is too narrow."""
    options = out.options.update(max_width=_WIDEST)
    room = out.width - 3 * len(table.columns) + 1  # without what is between two columns
    least: list[int] = []
    widths: list[int] = []
    for column in table.columns:
        cells = [Measurement.get(out, options, cell) for cell in (column.header, *column.cells)]
        widths.append(max(cell.maximum for cell in cells))
        least.append(widths[-1] if column.no_wrap else max(cell.minimum for cell in cells))
    if sum(least) > room:
        return None
    while sum(widths) > room:
        spare = [width - minimum for width, minimum in zip(widths, least, strict=True)]
        widest = max((width for width, more in zip(widths, spare, strict=True) if more))
        index = next(i for i, width in enumerate(widths) if width == widest and spare[i])
        widths[index] -= 1
    return widths


def print_pairs(pairs: Mapping[str, str]) -> None:
    """A name and a value on each line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(name, value)
    out.print(table)
