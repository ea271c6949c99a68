"""What the commands print: live progress, tables, and where to look."""

import itertools
import math
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from upright.errors import UprightError
from upright.evaluation.episodes import Evaluation
from upright.policy import Policy
from upright.runs import Run, policy_path
from upright.spec import Choice, Spec

if TYPE_CHECKING:
    from upright.training.doctor import Report
    from upright.training.records import Status


class _Plain(Console):
    """Text as it is: a name from a stranger's file is no markup."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, highlight=False, soft_wrap=True, **options)

    def on_broken_pipe(self) -> None:
        """Whoever read our progress has left: that is no reason to end a training."""
        self.quiet = True


# Where output goes into a file there is no width to keep to, and a table must not lose columns.
_out = _Plain(width=None if sys.stdout.isatty() else 1000)
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
            "judging": "greedy episodes of every kept policy in Gymnasium",
        }[status.phase]
    parts = [f"{status.steps / 1000:,.0f}k steps", f"{status.steps_per_second / 1000:.1f}k/s"]
    if status.median_return is not None and status.worst_return is not None:
        returns = _number(status.median_return), _number(status.worst_return)
        parts.append("return {}, worst {}".format(*returns))
    if status.threshold is not None:
        parts.append(f"kept solves {status.solved}/{status.seeds}")
    if status.seconds_left is not None:
        parts.append(f"{_clock(status.seconds_left)} left")
    return "  ".join(parts)


def _number(value: float) -> str:
    """A return: large ones with one decimal, small ones with three digits that count."""
    return f"{value:.1f}" if abs(value) >= 10 or value == 0 else f"{value:.3g}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


def end_training(run: Run) -> None:
    """The table, and an exit status that a script understands."""
    print_run(run)
    if run.status == "interrupted":
        sys.exit(130)  # as the shell expects of Ctrl-C; a script does not go on
    failed = [result for result in run.results if "error" in result]
    if failed:
        first = failed[0]
        others = f" (failed: {len(failed)} seeds)" if len(failed) > 1 else ""
        raise UprightError(
            f"seed {first['seed']}: {first['error']}{others}; mend it, then go on with:"
            f" {_upright()} resume {_target(run)}"
        )


def _target(run: Run) -> str:
    """The run on a command line; a module in its task's id is imported only if it is typed."""
    task = run.info["config"]["task"]
    return f"{run.path} --task {task}" if ":" in task else str(run.path)


def print_run(run: Run) -> None:
    """The table of the seeds, and where to look."""
    table = _table(title=f"{run.info['spec']['task']}: greedy policies")
    for column in ("seed", "kept at step", "training evaluation", "mean return", "worst return"):
        table.add_column(column, justify="right")
    table.add_column("")
    for result in run.results:
        kept, judgement = result["kept"], result.get("judgement")
        notes = {
            "diverged": "diverged: loss not finite",
            "interrupted": "interrupted",
            "failed": "failed",
        }
        table.add_row(
            str(result["seed"]),
            f"{kept['step']:,}" if kept else "-",
            _number(kept["evaluation"]["mean_return"]) if kept else "-",
            _number(judgement["mean_return"]) if judgement else "-",
            _number(judgement["worst_return"]) if judgement else "-",
            notes.get(result["state"], ""),
        )
    _out.print(table)
    judgements = [result["judgement"] for result in run.results if result.get("judgement")]
    _print_over_seeds(judgements)
    timings = run.info.get("timings")
    if timings:
        _out.print(
            f"{timings['steps']:,} steps in"
            f" {timings['training_s']:.1f} s: {timings['steps_per_second']:,.0f} steps/s"
        )
    _print_where(run)


def _print_where(run: Run) -> None:
    """The last lines: what is in the folder, what to do with it."""
    kept = sum(policy_path(run.path, seed).exists() for seed in run.seeds)
    path = _target(run)
    judged = sum(bool(result.get("judgement")) for result in run.results)
    if judged < kept:
        _out.print(f"judged: {judged} of {kept} policies; all: {_upright()} evaluate {path}")
    if run.status in ("interrupted", "running"):
        _out.print(f"go on with it:         {_upright()} resume {path}")
    if kept:
        _out.print(f"watch the best policy: {_upright()} play {path}")
        _out.print(f"learning curve:        {_upright()} plot {run.path}")
    _out.print(
        f"{run.status}: {run.path} holds run.json, episodes.csv, evaluations.csv, learning.csv"
        f" and policies/ ({kept} of {len(run.seeds)} seeds)"
    )


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
    _out.print(table)
    counts = Counter(finding.severity for finding in report.findings)
    problems = f"{counts['problem']} problem{'' if counts['problem'] == 1 else 's'}"
    _out.print(f"{report.task}: {problems}, {counts['advice']} advice, {counts['fine']} fine")


def print_evaluations(
    kind: str, policies: Mapping[str, Policy], evaluations: Mapping[str, Evaluation]
) -> None:
    """A row for each policy; below it the average and the worst of many."""
    table = _table()
    table.add_column(kind)
    for column in ("trained steps", "mean return", "worst return", "reset seed of the worst"):
        table.add_column(column, justify="right")
    for name, evaluation in evaluations.items():
        summary = evaluation.summary()
        table.add_row(
            name,
            f"{policies[name].training.get('step', 0):,}",
            _number(summary["mean_return"]),
            _number(summary["worst_return"]),
            str(summary["worst_reset_seed"]),
        )
    _out.print(table)
    _print_over_seeds([evaluation.summary() for evaluation in evaluations.values()])


def _print_over_seeds(summaries: Sequence[Mapping[str, Any]]) -> None:
    """The average and the worst of many."""
    if len(summaries) > 1:
        means = [summary["mean_return"] for summary in summaries]
        _out.print(
            f"{len(summaries)} seeds, {summaries[0]['episodes']} episodes each in Gymnasium:"
            f" mean return {sum(means) / len(means):.1f}, worst seed {min(means):.1f},"
            f" worst episode {min(summary['worst_return'] for summary in summaries):.0f}"
        )


def print_runs(runs: list[Run], folder: Path) -> None:
    """A row for each run; without task and budget where the terminal is narrow."""
    if not runs:
        _out.print(f"no runs in {folder}")
        return
    wide = _out.width >= 110
    table = _table()
    table.add_column("run", no_wrap=True, overflow="fold")  # what one copies is never cut
    for name in ("task, preset", "budget") if wide else ():
        table.add_column(name)
    table.add_column("state")
    for name in ("seeds", "mean return", "worst seed"):
        table.add_column(name, justify="right")
    for run in runs:
        config = run.info["config"]
        means = [r["judgement"]["mean_return"] for r in run.results if r.get("judgement")]
        complete = means and len(means) == len(run.seeds)  # an average over some would mislead
        diverged = sum(result["state"] == "diverged" for result in run.results)
        table.add_row(
            run.path.name,
            *((f"{config['task']}, {run.preset}", _budget(config)) if wide else ()),
            run.status + (f", {diverged} diverged" if diverged else ""),
            str(len(run.seeds)),
            f"{sum(means) / len(means):.1f}" if complete else "-",
            f"{min(means):.1f}" if complete else "-",
        )
    _out.print(table)


def print_settings(run: Run) -> None:
    """What was asked, and on what machine."""
    info, config = run.info, run.info["config"]
    agent = ", ".join(f"{name} {value}" for name, value in config["agent"].items())
    machine = info["machine"]
    _print_pairs(
        {
            "run": str(run.path),
            "task": config["task"],
            "preset": run.preset,
            "seeds": ", ".join(map(str, run.seeds)),
            "budget": f"{_budget(config)} for each seed",
            "DQN": agent,
            "started": info["started"],
            "commit": info["commit"] or "none",
            "machine": f"{machine['processor']}, {machine['cores']} cores, {machine['device']}",
            "versions": ", ".join(f"{name} {value}" for name, value in info["versions"].items()),
        }
    )


def print_policy(policy: Policy) -> None:
    """What goes in, what comes out, where it comes from."""
    spec = policy.spec
    table = _table(title="observation")
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
    training = policy.training
    evaluation = training.get("evaluation", {})
    _print_pairs(
        {
            "task": spec.task,
            "network": f"{'-'.join(map(str, policy.sizes))}, ReLU",
            "actions": _actions(spec),
            "trained by": f"{training.get('agent', '?')}, seed {training.get('seed', '?')},"
            f" step {training.get('step', '?')}",
            "evaluation": ", ".join(f"{key} {value:g}" for key, value in evaluation.items()),
        }
    )
    _out.print(table)


def _actions(spec: Spec) -> str:
    every = f", every {spec.dt:g} s" if spec.dt else ""
    if isinstance(spec.action, Choice):
        values = ", ".join(f"{value:g}" for value in spec.action.values)
        return f"{spec.action.name} of {values}{_unit(spec.action.unit)}{every}"
    ranges = (
        f"{channel.name} of {channel.minimum:g} to {channel.maximum:g}{_unit(channel.unit)}"
        for channel in spec.action.channels
    )
    return ", ".join(ranges) + every


def _unit(unit: str) -> str:
    return f" {unit}" if unit != "1" else ""


def _upright() -> str:
    """How this command was called, where it is not on the path."""
    if shutil.which("upright"):
        return "upright"
    program = Path(sys.argv[0])
    return "python -m upright" if program.name == "__main__.py" else os.path.relpath(program)


def _budget(config: Mapping[str, Any]) -> str:
    return f"{config['steps']:,} steps" if config["steps"] else f"{config['episodes']:,} episodes"


def _table(title: str | None = None) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)


def _print_pairs(pairs: Mapping[str, str]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(name, value)
    _out.print(table)
