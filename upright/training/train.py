"""Training: from a task and settings to a run folder with a kept policy for each seed."""

import warnings
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax

from upright.agents.agent import Agent
from upright.checks import ends
from upright.errors import UprightError, UprightWarning, VersionError
from upright.runners import jit
from upright.runners.runner import Runner
from upright.runs import Run, provenance
from upright.runs.checkpoint import Checkpoint
from upright.runs.folder import RunInfo, name_seeds, new_folder
from upright.runs.writer import RunWriter
from upright.tasks.catalogue import Physics, Ranges, bare, check_promises, load
from upright.training.config import CHECKPOINT_STEPS, Config, plan
from upright.training.interrupt import Interrupt
from upright.training.progress import Status, Watch
from upright.training.runners import make_runner
from upright.training.seed_run import SeedRun
from upright.training.trainer import Trainer


def train(
    task: str = "CartPole-v1",
    *,
    preset: str = "default",
    agent: Agent | None = None,
    seeds: int | str | Iterable[Any] = 20,
    steps: int | None = None,
    episodes: int | None = None,
    evaluate_every: int | None = None,
    evaluation_episodes: int | None = None,
    checkpoint_every: int = CHECKPOINT_STEPS,
    runner: Literal["auto", "compiled", "hosted"] = "auto",
    render: Literal["human"] | None = None,
    physics: Physics | None = None,
    randomise: Ranges | None = None,
    out: str | Path | None = None,
    join: bool = False,
    watch: Watch | None = None,
) -> Run:
    """Trains one agent for each seed and returns the run.

    `task`: the id of a native task or of any Gymnasium environment with a Box of observations and
    Discrete actions; "my_robot:Arm-v0" imports the module my_robot first.
    `seeds`: a number of them, whole numbers, or text as on the command line ("1000:1020").
    `agent` and the budget (`steps` or `episodes` for each seed): the preset's unless given.
    `evaluate_every`: steps between two greedy evaluations, of `evaluation_episodes` episodes each;
    by default 1000 and 50, where Gymnasium does the steps 2000 and 10.
    `checkpoint_every`: steps between two checkpoints of a seed, from which `resume` goes on.
    `runner`: "compiled" (native tasks only: all in one compiled loop) or "hosted" (Gymnasium).
    `render`: "human" shows the first seed in a window while it learns, hosted.
    `physics`: parameters of a native task that are changed, by name: {"half_length": 1.0}.
    `randomise`: parameters that are drawn anew for each episode, uniformly between two values:
    {"pole_mass": (0.05, 0.3)}. The task is then judged with its nominal physics, and randomised.
    `out`: the run folder, which must not exist or be empty; by default runs/TASK-PRESET-DATE.
    `join`: `out` is a run to which these seeds are added, while others may be training its own.
    `watch`: is called with the `Status`, some times a second, from any thread.

    Ctrl-C ends in order: the run then holds all that was learned. If the environment of a seed
    fails, the others go on, and the run's status is "failed". Raises UprightError on bad input,
    before anything is written.
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
        runner=runner,
        render=render,
        physics=physics,
        randomise=randomise,
    )
    return _train(config, out, join, render, watch or (lambda status: None))


def resume(
    run: str | Path,
    *,
    steps: int | None = None,
    episodes: int | None = None,
    task: str | None = None,
    render: Literal["human"] | None = None,
    watch: Watch | None = None,
) -> Run:
    """Goes on with a run, as if it had never been interrupted, and returns it.

    Seeds that another process is training are left to it.
    `steps` or `episodes`: another budget for each seed, of the kind that the run has.
    `task`: the run's; needed if its id names a module, which is imported only if you say so.
    `render`, `watch`: as in `train`.

    Raises UprightError if there is nothing to go on with, or nothing left to do.
    """
    path = Path(run)
    watch = watch or (lambda status: None)
    before = Config.from_record(Run(path).info.config)
    config = before.with_budget(steps, episodes)
    with (
        _running(watch) as interrupt,
        RunWriter.resume(path, config.steps, config.episodes) as writer,
    ):
        if not writer.seeds and not writer.others:
            raise UprightError(f"{path}: already finished; give a larger budget with --steps")
        others = f"another process is writing {name_seeds(writer.others)}" if writer.others else ""
        if not writer.seeds:
            raise UprightError(f"{path}: {others}; nothing is left to do here")
        _check_task(path, config, task)
        ready = make_runner(config, render)
        if ready.spec != Run(path).spec:
            raise UprightError(f"{path}: {config.task} is not the same task any more (spec)")
        if others:
            warnings.warn(f"{path}: {others}; it is left to it", UprightWarning, stacklevel=2)
        parts = [SeedRun(config, writer, seed) for seed in writer.seeds.values()]
        found = _read_checkpoints(parts, ready.template())
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
        Trainer(config, ready, writer, list(found), interrupt, watch).train(states)
    return Run(path)


def _train(
    config: Config,
    out: str | Path | None,
    join: bool,
    render: Literal["human"] | None,
    watch: Watch,
) -> Run:
    """In a new run, or as more seeds of one."""
    if join and out is None:
        raise UprightError("join needs the run to join; give its folder with --out")
    path = Path(out) if out is not None else new_folder(config.task, config.preset)
    with _running(watch) as interrupt:
        ready = make_runner(config, render)
        noticed = _review(config, ready)
        if join:
            _check_same(path, config, ready)
            opened = RunWriter.join(path, config.seeds)
        else:
            opened = RunWriter.create(path, _describe(config, ready, noticed))
        with opened as run:
            for text in noticed:
                warnings.warn(text, UprightWarning, stacklevel=4)
            parts = [SeedRun(config, run, writer) for writer in run.seeds.values()]
            for seed in parts:
                seed.begin()
            Trainer(config, ready, run, parts, interrupt, watch).train({})
    return Run(path)


def _read_checkpoints(seeds: list[SeedRun], template: Any) -> dict[SeedRun, Checkpoint | None]:
    """Of the seeds that can go on. A damaged checkpoint costs its seed, and no other.

    Raises UprightError, and changes nothing, if none can.
    """
    found: dict[SeedRun, Checkpoint | None] = {}
    lost: dict[SeedRun, UprightError] = {}
    for seed in seeds:
        try:
            found[seed], complaints = seed.read_checkpoint(template)
        except VersionError:
            raise  # nothing is wrong with it
        except UprightError as error:
            lost[seed] = error
            continue
        if complaints:
            text = f"{'; '.join(complaints)}; an older checkpoint is used"
            warnings.warn(text, UprightWarning, stacklevel=3)
            seed.writer.warn(text)
    for seed, error in lost.items():
        if not found:
            raise error
        text = f"seed {seed.seed} cannot go on: {error}"
        warnings.warn(text, UprightWarning, stacklevel=3)
        seed.writer.save_info(state="failed", error=str(error))
    return found


@contextmanager
def _running(watch: Watch) -> Generator[Interrupt]:
    """Where Ctrl-C is heard and JAX is ready."""
    jit.prepare()
    with Interrupt(partial(watch, Status("stopping", 0.0))) as interrupt:
        try:
            yield interrupt
        except jax.errors.JaxRuntimeError as error:
            if "memory" not in str(error):
                raise
            raise UprightError(
                "out of memory; a smaller network or batch, less that an agent keeps (see"
                " --agent.* in upright train --help), or fewer --seeds"
            ) from None


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
    return [f"{finding.seen}; {finding.fix}" for finding in findings]


def _check_same(path: Path, config: Config, runner: Runner) -> None:
    """Raises UprightError unless the run is the same training, of other seeds maybe."""
    run = Run(path)
    if differences := Config.from_record(run.info.config).differences(config):
        raise UprightError(f"{path}: {'; '.join(differences)} here; joined seeds need the same")
    if run.spec != runner.spec:
        raise UprightError(f"{path}: {config.task} is not the same task any more (spec)")


def _check_task(path: Path, config: Config, task: str | None) -> None:
    """Raises UprightError unless the run's task may be made."""
    if task and bare(task) != bare(config.task):
        raise UprightError(f"{path}: its task is {config.task}, not {task}")
    if ":" in config.task and not task:
        module = config.task.partition(":")[0]
        raise UprightError(
            f"{path}: its task is in the module {module!r}; if you trust it: --task {config.task}"
        )
    if task:
        load(task)


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
