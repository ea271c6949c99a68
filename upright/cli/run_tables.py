"""What the commands print of runs: the table of the seeds, and where to look."""

import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from upright.calling import is_from_command_line
from upright.cli import words
from upright.cli.console import new_table, out, print_over_seeds, print_pairs, print_table
from upright.cli.words import number
from upright.errors import UprightError
from upright.policy import Provenance
from upright.runs import Run
from upright.runs.folder import FinalEvaluation, RunConfig, name_seeds, policy_path

_NOTES = {
    "diverged": "diverged: loss not finite",
    "interrupted": "interrupted",
    "failed": "failed",
    "running": "running",
}

_EXPLAINED = (
    "kept: of each seed the policy with the best training evaluation, greedy episodes from fixed"
    " start states while it learned; mean and worst return: of that policy, from other ones"
)


def end_training(run: Run) -> None:
    """The table, and an exit status that a script understands."""
    print_run(run)
    if run.status == "interrupted":
        sys.exit(130)  # as the shell expects of Ctrl-C; a script does not go on
    failed = [result for result in run.results if result.error]
    if failed:
        first = failed[0]
        others = f" (failed: {len(failed)} seeds)" if len(failed) > 1 else ""
        raise UprightError(
            f"seed {first.seed}: {first.error}{others}; fix it, then continue with:"
            f" {_upright()} resume {_target(run)}"
        )


def print_run(run: Run) -> None:
    """The table of the seeds, and where to look."""
    table = new_table(title=f"{run.spec.task}: greedy policies")
    randomise = run.info.config.randomise
    columns = ["seed", "kept at step", "training evaluation", "mean return", "worst return"]
    columns += ["randomised: mean", "worst"] if randomise else []
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column("")
    for result in run.results:
        kept = result.kept
        table.add_row(
            str(result.seed),
            f"{kept.step:,}" if kept else "-",
            number(kept.mean_return) if kept else "-",
            *_final(result.final_evaluation),
            *(_final(result.randomised_evaluation) if randomise else ()),
            _NOTES.get(result.state, ""),
        )
    print_table(table)
    out.say(_EXPLAINED)
    finals = [result.final_evaluation for result in run.results if result.final_evaluation]
    print_over_seeds([asdict(final) for final in finals], words.played(_provenance(run), False))
    drawn = [result.randomised_evaluation for result in run.results if result.randomised_evaluation]
    print_over_seeds([asdict(final) for final in drawn], words.played(_provenance(run), True))
    _print_speed(run)
    _print_where(run)


def _final(final: FinalEvaluation | None) -> tuple[str, str]:
    """Mean and worst return."""
    return (number(final.mean_return), number(final.worst_return)) if final else ("-", "-")


def _provenance(run: Run) -> Provenance:
    """Of its policies, as far as their physics goes."""
    config = run.info.config
    return Provenance(physics=config.physics, randomise=config.randomise)


def print_runs(runs: list[Run], folder: Path) -> None:
    """A row for each run."""
    if not runs:
        out.print(f"no runs in {folder}")
        return
    table = new_table()
    table.add_column("run", no_wrap=True)  # what one copies is never cut
    for name in ("task, preset, physics", "budget", "state"):
        table.add_column(name)
    for name in ("seeds", "mean return", "worst seed"):
        table.add_column(name, justify="right")
    for run in runs:
        means = [r.final_evaluation.mean_return for r in run.results if r.final_evaluation]
        complete = means and len(means) == len(run.seeds)  # an average over some would mislead
        diverged = sum(result.state == "diverged" for result in run.results)
        table.add_row(
            run.path.name,
            _training(run),
            _budget(run.info.config),
            run.status + (f", {diverged} diverged" if diverged else ""),
            str(len(run.seeds)),
            number(sum(means) / len(means)) if complete else "-",
            number(min(means)) if complete else "-",
        )
    print_table(table)


def _training(run: Run) -> str:
    """What is trained, by its name and its changes."""
    config, provenance = run.info.config, _provenance(run)
    changed = provenance.physics or provenance.randomise
    return ", ".join([config.task, run.preset, *([words.physics(provenance)] if changed else [])])


def print_settings(run: Run) -> None:
    """What was asked, and on what machine."""
    info, config, platform = run.info, run.info.config, run.info.platform
    settings = dict(config.agent)
    name = str(settings.pop("name"))
    cores = words.count(platform.cores, "core") if platform.cores else "cores unknown"
    print_pairs(
        {
            "run": str(run.path),
            "task": config.task,
            "preset": run.preset,
            "seeds": name_seeds(run.seeds).partition(" ")[2],
            "physics": words.physics(_provenance(run)),
            "budget": f"{_budget(config)} for each seed",
            name: ", ".join(f"{name} {value}" for name, value in settings.items()),
            "started": info.started,
            "command": " ".join(info.command) if info.command else "none: a program's",
            "commit": platform.commit or "none",
            "machine": f"{platform.processor}, {cores}, {platform.device}",
            "versions": ", ".join(f"{name} {value}" for name, value in platform.versions.items()),
        }
    )


def _print_speed(run: Run) -> None:
    """Of the process that trained last."""
    stints = [stint for result in run.results for stint in result.stints]
    last = max(stints, key=lambda stint: stint.started, default=None)
    if last and last.training_seconds:
        resumed = len({stint.started for stint in stints}) > 1
        out.say(
            f"{words.count(last.steps, 'step')} in {last.training_seconds:.1f} s:"
            f" {last.steps / last.training_seconds:,.0f} steps/s"
            + (" (since it was last resumed or joined)" if resumed else "")
        )


def _print_where(run: Run) -> None:
    """The last lines: what is in the folder, what to do with it."""
    kept = sum(policy_path(run.path, seed).exists() for seed in run.seeds)
    path = _target(run)
    evaluated = sum(result.final_evaluation is not None for result in run.results)
    if evaluated < kept:
        out.print(f"evaluated: {evaluated} of {kept} policies; all: {_upright()} evaluate {path}")
    if run.status in ("interrupted", "running"):
        out.print(f"continue with:         {_upright()} resume {path}")
    if kept:
        out.print(f"watch the best policy: {_upright()} play {path}")
        out.print(f"learning curve:        {_upright()} plot {run.path}")
    held = "run.json, best.safetensors and seeds/" if kept else "run.json and seeds/"
    out.print(
        f"{run.status}: {run.path} holds {held} ({kept} of {len(run.seeds)} seeds have a policy)"
    )


def _target(run: Run) -> str:
    """The run on a command line; a module in its task's id is imported only if it is typed."""
    task = run.info.config.task
    return f"{run.path} --task {task}" if ":" in task else str(run.path)


def _budget(config: RunConfig) -> str:
    if config.steps:
        return words.count(config.steps, "step")
    return words.count(config.episodes or 0, "episode")


def _upright() -> str:
    """How this command was called, where it is not on the path."""
    if shutil.which("upright") or not is_from_command_line():
        return "upright"
    program = Path(sys.argv[0])
    return "python -m upright" if program.name == "__main__.py" else os.path.relpath(program)
