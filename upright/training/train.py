"""Training: from a task and settings to a run folder with a kept policy for each seed."""

import os
import warnings
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax

from upright.agents.agent import Agent
from upright.bridge.factory import Factory, ask_again, is_made, named
from upright.calling import (
    agent_settings,
    check_kind,
    is_from_command_line,
    names_checked,
    option,
)
from upright.checks import ends
from upright.errors import UprightError, UprightWarning, VersionError
from upright.evaluation.conditions import env_arguments
from upright.runners import jit
from upright.runners.runner import Runner
from upright.runs import Run, find_run, provenance
from upright.runs.checkpoint import Checkpoint
from upright.runs.folder import RunInfo, name_seeds, new_folders
from upright.runs.writer import RunWriter, UsedError
from upright.tasks.catalogue import Physics, Ranges, bare, check_promises, load
from upright.training.config import CHECKPOINT_STEPS, FINAL_EPISODES, Config, check_render, plan
from upright.training.display import watching
from upright.training.interrupt import Interrupt, Interrupted
from upright.training.progress import Status, Watch
from upright.training.runners import make_runner
from upright.training.seed_run import SeedRun
from upright.training.trainer import Trainer


@names_checked
def train(
    task: str | Factory = "CartPole-v1",
    *,
    preset: str = "default",
    agent: Agent | None = None,
    seeds: int | str | Iterable[Any] = 20,
    steps: int | None = None,
    episodes: int | None = None,
    evaluate_every: int | None = None,
    evaluation_episodes: int | None = None,
    checkpoint_every: int = CHECKPOINT_STEPS,
    final_episodes: int = FINAL_EPISODES,
    max_steps: int | None = None,
    environments: Literal["several", "one"] = "several",
    runner: Literal["auto", "compiled", "hosted"] = "auto",
    render: Literal["human"] | None = None,
    physics: Physics | None = None,
    randomise: Ranges | None = None,
    env: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    join: bool = False,
    watch: Watch | Literal["auto"] | None = "auto",
) -> Run:
    """Trains one agent for each seed and returns the run.

    `task`: the id of a native task or of any Gymnasium environment with a Box of observations and
    Discrete actions; "my_robot:Arm-v0" imports the module my_robot first. Or a function that makes
    the environment, `lambda: gym.make(...)`, or its class; it is needed again by `resume`.
    `seeds`: a number of them, whole numbers, or text as on the command line ("1000:1020").
    `agent` and the budget (`steps` or `episodes` for each seed): the preset's unless given.
    `evaluate_every`: steps between two greedy evaluations, of `evaluation_episodes` episodes each;
    by default 1000 and 50, where Gymnasium does the steps 2000 and 10.
    `checkpoint_every`: steps between two checkpoints of a seed, from which `resume` goes on.
    `final_episodes`: of the evaluation of each kept policy after the training.
    `max_steps`: after which an evaluated episode is cut off; by default 1,000, where the task has
    no time limit.
    `environments`: "one" for a task of which there can be only one at a time, or which needs the
    main thread: one seed learns and is evaluated in turn in a single environment; the episode that
    is under way when an evaluation is due ends there, as by a time limit.
    `runner`: "compiled" (native tasks only: all in one compiled loop) or "hosted" (Gymnasium).
    `render`: "human" shows the first seed in a window while it learns, hosted.
    `physics`: parameters of a native task that are changed, by name: {"half_length": 1.0}.
    `randomise`: parameters that are drawn anew for each episode, uniformly between two values:
    {"pole_mass": (0.05, 0.3)}. The task is then judged with its nominal physics, and randomised.
    `env`: arguments of a Gymnasium environment itself, by name: {"gravity": -5.0}.
    `out`: the run folder, which must not exist or be empty; by default runs/TASK-PRESET-DATE.
    `join`: `out` is a run to which these seeds are added, while others may be training its own.
    `watch`: is called with the `Status`, some times a second, from any thread; "auto" shows it on a
    terminal and in a notebook, None nowhere.

    Ctrl-C ends in order: the run then holds all that was learned, and a KeyboardInterrupt follows
    that has it as its `run`. SIGTERM and SIGHUP end in order, too, and then do what they do
    elsewhere: they end the process. If the environment of a seed fails, the others go on, and the
    run's status is "failed". Raises UprightError on bad input, before anything is written.
    """
    config = plan(
        task,
        preset=preset,
        agent=agent,
        seeds=seeds,
        steps=steps,
        episodes=episodes,
        evaluate_every=evaluate_every,
        evaluation_episodes=evaluation_episodes,
        checkpoint_every=checkpoint_every,
        final_episodes=final_episodes,
        max_steps=max_steps,
        environments=environments,
        runner=runner,
        render=render,
        physics=physics,
        randomise=randomise,
        env=env,
    )
    with watching(watch) as shown:
        return _told(*_train(config, out, join, render, shown))


@names_checked
def resume(
    run: Run | str | Path,
    *,
    steps: int | None = None,
    episodes: int | None = None,
    task: str | Factory | None = None,
    env: Mapping[str, Any] | None = None,
    render: Literal["human"] | None = None,
    watch: Watch | Literal["auto"] | None = "auto",
) -> Run:
    """Goes on with a run, as if it had never been interrupted, and returns it.

    Seeds that another process is training are left to it.
    `steps` or `episodes`: another budget for each seed, of the kind that the run has.
    `task`: the run's; needed if its id names a module, which is imported only if you say so, or if
    it is a function. `env`: the run's; needed for text in it, for the same reason.
    `render`, `watch`: as in `train`.

    Ctrl-C and signals are as in `train`. Raises UprightError if there is nothing to go on with, or
    nothing left to do.
    """
    check_render(render)
    there = Run(find_run(run).path)  # as it is now
    path, before = there.path, Config.of_run(there)
    config = before.with_budget(steps, episodes)
    with (
        watching(watch) as shown,
        _running(shown) as interrupt,
        RunWriter.resume(path, config.steps, config.episodes) as writer,
    ):
        interrupt.run = path
        if not writer.seeds and not writer.others:
            raise UprightError(f"{path}: already finished; give a larger budget: {option('steps')}")
        others = f"another process is writing {name_seeds(writer.others)}" if writer.others else ""
        if not writer.seeds:
            raise UprightError(f"{path}: {others}; nothing is left to do here")
        config = replace(config, factory=_check_task(path, config, task, env))
        ready = make_runner(config, render)
        if ready.spec != there.spec:
            raise UprightError(f"{path}: {config.task} is not the same task any more (spec)")
        if others:
            warnings.warn(f"{path}: {others}; it is left to it", UprightWarning, stacklevel=2)
        parts = [SeedRun(config, writer, seed) for seed in writer.seeds.values()]
        found = _read_checkpoints(parts, ready)
        if config != before:
            writer.save_budget(config.steps, config.episodes)
        states: dict[int, Any] = {}
        for seed in found:
            if checkpoint := found[seed]:
                seed.restore(checkpoint)
                states[seed.seed] = checkpoint.state
            else:
                seed.begin()
        writer.refresh_best()
        Trainer(config, ready, writer, list(found), interrupt, shown).train(states)
    return _told(path, list(found))


def _train(
    config: Config,
    out: str | Path | None,
    join: bool,
    render: Literal["human"] | None,
    watch: Watch,
) -> tuple[Path, list[SeedRun]]:
    """In a new run, or as more seeds of one: its folder, and what was trained."""
    if join and out is None:
        raise UprightError(f"join needs the run to join; give its folder: {option('out')}")
    if out is not None:
        check_kind("out", out, str | os.PathLike, "the path of a folder")
    with _running(watch) as interrupt:
        ready = make_runner(config, render)
        noticed = _review(config, ready)
        if join and out is not None:
            _check_same(Path(out), config, ready)
            opened = RunWriter.join(Path(out), config.seeds)
        else:
            opened = _create(out, _describe(config, ready, noticed))
        interrupt.run = opened.path
        with opened as run:
            for text in noticed:
                warnings.warn(text, UprightWarning, stacklevel=4)
            parts = [SeedRun(config, run, writer) for writer in run.seeds.values()]
            for seed in parts:
                seed.begin()
            Trainer(config, ready, run, parts, interrupt, watch).train({})
    return opened.path, parts


def _told(path: Path, seeds: Sequence[SeedRun]) -> Run:
    """The run; a program is warned where seeds have failed. The command line says it at its end."""
    failed = [seed for seed in seeds if seed.error]
    if failed and not is_from_command_line():
        first, more = failed[0], len(failed) - 1
        others = f", and {more} more of {len(seeds)} failed" if more else ""
        text = f"{path}: seed {first.seed} failed: {first.error}{others}; fix it, then resume"
        warnings.warn(text, UprightWarning, stacklevel=4)
    return Run(path)


def _create(out: str | Path | None, info: RunInfo) -> RunWriter:
    """Where nobody says where, in the first folder that no other process was faster to take."""
    if out is not None:
        return RunWriter.create(Path(out), info)
    for path in new_folders(info.config.task, info.config.preset):
        with suppress(UsedError):
            return RunWriter.create(path, info)
    raise AssertionError("there are numbers without end")


def _read_checkpoints(seeds: list[SeedRun], runner: Runner) -> dict[SeedRun, Checkpoint | None]:
    """Of the seeds that can go on. A damaged checkpoint costs its seed, and no other.

    Raises UprightError, and changes nothing, if none can.
    """
    found: dict[SeedRun, Checkpoint | None] = {}
    lost: dict[SeedRun, UprightError] = {}
    for seed in seeds:
        if seed.writer.damage:
            _warn(seed, f"{seed.writer.damage}; seed {seed.seed} goes on from its checkpoint")
        try:
            found[seed], complaints = seed.read_checkpoint(runner)
        except VersionError:
            raise  # nothing is wrong with it
        except UprightError as error:
            lost[seed] = error
            continue
        if complaints:
            _warn(seed, f"{'; '.join(complaints)}; an older checkpoint is used")
    for seed, error in lost.items():
        if not found:
            raise error
        text = f"seed {seed.seed} cannot go on: {error}"
        warnings.warn(text, UprightWarning, stacklevel=3)
        seed.writer.save_info(state="failed", error=str(error))
    return found


def _warn(seed: SeedRun, text: str) -> None:
    warnings.warn(text, UprightWarning, stacklevel=4)
    seed.writer.warn(text)


@contextmanager
def _running(watch: Watch) -> Generator[Interrupt]:
    """Where Ctrl-C is heard and JAX is ready.

    What was heard follows when all is saved; to the command line it is Interrupted.
    """
    jit.prepare()
    with Interrupt(partial(watch, Status("stopping", 0.0))) as interrupt:
        try:
            yield interrupt
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) and "out of memory" not in str(error).lower():
                raise
            raise UprightError(
                "out of memory; a smaller network or batch, less that an agent keeps"
                f" ({agent_settings()}), or fewer {option('seeds')}"
            ) from None
    if interrupt.number is not None and interrupt.run is not None:
        end = Interrupted(Run(interrupt.run), interrupt.number)
        if not is_from_command_line():
            end.follow()
        raise end


def _review(config: Config, runner: Runner) -> list[str]:
    """What is worth a warning. Raises UprightError where nothing, or nonsense, would be learned."""
    check_promises(config.task, config.physics, config.randomise)
    longest = runner.spec.episode_steps
    budget = float(config.steps or (config.episodes or 0) * (longest or float("inf")))
    findings = config.agent.review(budget)
    for finding in findings:
        if finding.severity == "problem":
            raise UprightError(f"{finding.seen}; {finding.fix}")
    findings += [f for f in ends.declared_limit(longest) if f.severity != "fine"]
    findings += runner.noticed
    return [f"{finding.seen}; {finding.fix}" for finding in findings]


def _check_same(path: Path, config: Config, runner: Runner) -> None:
    """Raises UprightError unless the run is the same training, of other seeds maybe."""
    run = Run(path)
    if differences := Config.of_run(run).differences(config):
        raise UprightError(f"{path}: {'; '.join(differences)} here; joined seeds need the same")
    if run.spec != runner.spec:
        raise UprightError(f"{path}: {config.task} is not the same task any more (spec)")


def _check_task(
    path: Path, config: Config, given: Any, env: Mapping[str, Any] | None
) -> Factory | None:
    """What makes the run's task, if it has no id. Raises UprightError unless it may be made."""
    task, factory = (None, None) if given is None else named(given)
    if task and bare(task) != bare(config.task):
        raise UprightError(f"{path}: its task is {config.task}, not {task}")
    if is_made(config.task) and not factory:
        raise UprightError(f"{path}: {ask_again(config.task)}")
    if factory:
        return factory
    if env_arguments(config.env, env) != config.env:
        raise UprightError(f"{path}: its env is {dict(config.env)}, not {dict(env or {})}")
    if ":" in config.task and ":" not in (task or ""):
        module = config.task.partition(":")[0]
        raise UprightError(
            f"{path}: its task is in the module {module!r}; if you trust it:"
            f" {option('task', config.task)}"
        )
    if task:
        load(task)
    return None


def _describe(config: Config, runner: Runner, noticed: list[str]) -> RunInfo:
    return RunInfo(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        command=provenance.command(),
        config=config.record(),
        changes=config.changes(),
        spec=runner.spec.to_dict(),
        platform=provenance.describe_platform(jax.devices()[0].device_kind),
        warnings=tuple(noticed),
    )
