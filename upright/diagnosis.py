"""What may be wrong with a task or a schedule, before hours are spent on learning from it."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from upright.agents.agent import Agent
from upright.bridge.factory import Factory
from upright.bridge.flat import Flat
from upright.bridge.spec import read_spec
from upright.calling import names_checked
from upright.checks import (
    delay,
    determinism,
    ends,
    instances,
    masks,
    observations,
    rewards,
    speed,
    symmetry,
)
from upright.checks.recording import Recording, record
from upright.errors import UprightError, one_line
from upright.finding import Finding, UnfitError
from upright.runners import jit
from upright.runners.runner import Runner, Segment, cores
from upright.seeds import check_seeds
from upright.spec import Choice, Spec
from upright.tasks.catalogue import Physics, Ranges, is_native
from upright.tasks.task import check_time_limit
from upright.training.config import ROW_STEPS, Config, plan
from upright.training.pool import Pool
from upright.training.runners import evaluation_steps, find_task, make_runner

RANDOM_STEPS = 2000
_SPEED_SECONDS = 2.0  # that environments may take while the speed is measured
_SPEED_STEPS = 4000  # over all seeds, of each of the two halves of that measurement

_DIVERGED = "the loss is not finite any more"

Watch = Callable[[str, float], None]  # what is done, and which share of all


@dataclass(frozen=True, repr=False)
class Report:
    """All that was looked at."""

    task: str
    findings: tuple[Finding, ...]

    def __repr__(self) -> str:
        return f"Report({self.summary})"

    @property
    def summary(self) -> str:
        """How much of what was found, in one line."""
        counts = Counter(finding.severity for finding in self.findings)
        found = f"{counts['problem']} problem{_s(counts['problem'])}, {counts['advice']} advice"
        return f"{self.task}: {found}, {counts['fine']} fine"

    @property
    def problems(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "problem")


@names_checked
def doctor(
    task: str | Factory = "CartPole-v1",
    *,
    preset: str = "default",
    agent: Agent | None = None,
    seeds: int | str | Iterable[Any] = 20,
    steps: int | None = None,
    episodes: int | None = None,
    seed: int = 0,
    physics: Physics | None = None,
    randomise: Ranges | None = None,
    env: Mapping[str, Any] | None = None,
    watch: Watch = lambda phase, fraction: None,
) -> Report:
    """Plays 2,000 random steps, some of them again, times the learner, and reports what it finds.

    `task`, `preset`, `agent`, `seeds`, the budget and the physics are those of the `train` that is
    meant.
    `seed`: of the random actions and the start states.

    Raises UprightError on bad input. A task that exists and is not for the agent is a finding;
    then all is checked that does not need the agent.
    """
    check_seeds([seed])
    config = plan(
        task,
        preset=preset,
        agent=agent,
        seeds=seeds,
        steps=steps,
        episodes=episodes,
        physics=physics,
        randomise=randomise,
        env=env,
    )
    task = config.task
    settings = config.agent
    native, make = find_task(config)
    try:
        made = make()
    except UnfitError as error:
        return Report(task, (error.finding,))
    with closing(made):
        masked = masks.check(made, seed)
        spec = native or read_spec(made, task)
        findings = [_spaces(spec), *masked]
        played = record(made, RANDOM_STEPS, seed, partial(watch, "random steps"))
    if played.failure:
        fix = "make it play at random without an error; nothing else was checked"
        return Report(task, (*findings, Finding("environment", "problem", played.failure, fix)))
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers as large as float32 has them
        findings += _of_the_task(played, spec, settings)
    watch("playing again", 0.0)
    several = _of_instances(make, config, seed)
    findings += several
    findings += _of_a_native_task(config)
    watch("timing the learner", 0.0)
    # As it is timed, there are several of them, in threads.
    trainable = all(f.check == "determinism" or f.severity != "problem" for f in several)
    findings += _of_the_agent(played, spec, config, trainable)
    return Report(task, tuple(findings))


def _of_a_native_task(config: Config) -> list[Finding]:
    """Whether it does what its spec says."""
    if not is_native(config.task):
        return []
    task = config.make_task()
    findings = symmetry.check(task)
    try:
        check_time_limit(task)
    except UprightError as error:
        fix = "truncate there: return state.steps >= self.episode_steps"
        findings.append(Finding("time limit", "problem", str(error), fix))
    return findings


def _of_instances(make: Callable[[], Flat], config: Config, seed: int) -> list[Finding]:
    """What several instances do, of which no two live at a time but in one check."""
    try:
        env, cost = instances.make_timed(make)
        with closing(env):
            played = determinism.play(env, seed)
        fresh = make()
        with closing(fresh):
            findings = determinism.check(played, determinism.episodes(fresh, seed))
            if is_native(config.task):
                return findings
            handed = instances.in_thread(partial(instances.play_once, fresh, seed))
    except (Exception, SystemExit) as error:  # the environment's own code
        seen = f"failed when it was made or played a second time: {one_line(error)}"
        fix = "let close() free all that it holds, so that another one can be made after it"
        return [Finding("environment", "problem", seen, fix)]
    elsewhere = instances.in_thread(partial(instances.play_elsewhere, make, seed))
    findings.append(instances.check_threads(elsewhere, handed))
    two = instances.play_two(make, seed)
    # Where even one alone is another one each time, two tell nothing of each other.
    if findings[0].severity == "fine" or two.error:
        findings.append(instances.check_two(played.first, two))
    count = len(config.seeds) * config.agent.environments
    return [*findings, instances.check_cost(two.cost or cost, count)]


def _of_the_agent(played: Recording, spec: Spec, config: Config, timed: bool) -> list[Finding]:
    """What depends on the agent and the budget that are meant; `timed`: how long it takes, too."""
    agent = config.agent
    if misfit := _misfit(agent, spec):
        return [misfit]
    findings: list[Finding] = []
    if gamma := getattr(agent, "gamma", None):
        findings += rewards.check_scale(played, gamma, spec.episode_steps)
    budget = float(config.steps or (config.episodes or 0) * played.lengths.mean())
    reviewed = agent.review(budget, float(played.lengths.max()))
    findings += reviewed or [Finding("schedule", "fine", f"fits into {budget:,.0f} steps")]
    if timed:
        length = float(played.lengths.mean())
        evaluated = evaluation_steps(config, spec, budget, length)
        findings += _timed(config, agent, RANDOM_STEPS / played.seconds, budget, evaluated)
    return findings


def _spaces(spec: Spec) -> Finding:
    """What goes in and what comes out."""
    observations = f"{spec.observation_size} observation{_s(spec.observation_size)}"
    kind = "" if isinstance(spec.action, Choice) else "continuous "
    actions = f"{spec.action_size} {kind}action{_s(spec.action_size)}"
    return Finding("spaces", "fine", f"{observations}, {actions}")


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _misfit(agent: Agent, spec: Spec) -> Finding | None:
    """Why the agent cannot learn this task, if it cannot."""
    try:
        agent.fits(spec)
    except UprightError as error:
        seen, _, fix = str(error).partition("; ")
        return Finding("agent", "problem", seen, fix)
    return None


def _of_the_task(played: Recording, spec: Spec, agent: Agent) -> list[Finding]:
    # Agents may have this setting or not, and the discount, and when they begin to learn.
    scaled = getattr(agent, "scale_observations", False)
    return [
        *observations.check(played, spec, scaled),
        *rewards.check(played),
        *ends.check_termination(played),
        *ends.check_time_limit(played, spec.episode_steps),
        *delay.check(played, spec.action),
    ]


def _timed(
    config: Config, agent: Agent, environment: float, budget: float, evaluated: float
) -> list[Finding]:
    """The real thing for a moment, with as many seeds. `environment`: steps per second alone.

    `budget` and `evaluated`: steps of each seed that it learns from, and is evaluated in.
    """
    jit.prepare()
    compiled = config.runner == "compiled"
    # Each compiled seed is a piece of work of its own: more than there are cores tell no more.
    seeds = config.seeds[: cores()] if compiled else config.seeds
    steps = ROW_STEPS
    if not compiled:
        affordable = min(environment * _SPEED_SECONDS / 2, _SPEED_STEPS) / len(seeds)
        steps = int(np.clip(affordable, 10, ROW_STEPS))
    steps = config.whole_ticks(steps)
    try:
        rate = _rate(make_runner(replace(config, agent=_warm(agent, steps))), seeds, steps)
    except (_FailedError, UprightError, jax.errors.JaxRuntimeError) as error:
        return [_failed(error)]
    measured = speed.Speed(environment, rate, min(cores(), len(seeds)), compiled)
    return speed.check(measured, budget, len(config.seeds), evaluated)


def _warm(agent: Any, steps: int) -> Agent:
    """The agent as it is once it learns, which is then within so many steps."""
    if not hasattr(agent, "learning_starts"):
        return agent
    return replace(agent, learning_starts=min(agent.learning_starts, steps - 1))


class _FailedError(Exception):
    """What went wrong while the speed was measured."""


def _failed(error: Exception) -> Finding:
    if isinstance(error, _FailedError):
        fix = "smaller rewards, observations or agent.learning_rate; an environment without errors"
        return Finding("learning", "problem", str(error), fix)
    if "memory" not in str(error):
        raise error
    fix = "a smaller agent.replay_size, agent.hidden or agent.batch_size"
    seen = str(error).partition(";")[0] if isinstance(error, UprightError) else "not enough memory"
    return Finding("learning", "problem", seen, fix)


def _rate(runner: Runner, seeds: tuple[int, ...], steps: int) -> float:
    """Steps per second of all seeds together, once they learn. Raises _FailedError."""
    with Pool(runner.start(seeds, {})) as pool:
        seconds = 0.0
        for _ in ("warm up", "measure"):
            left = set(seeds)

            def once(seed: int, left: set[int] = left) -> Segment | None:
                if seed not in left:
                    return None
                left.remove(seed)
                return Segment(steps)

            begin = time.perf_counter()
            results = list(pool.run(once))
            seconds = time.perf_counter() - begin
            for result in results:
                if result.error or not result.finite:
                    raise _FailedError(f"seed {result.seed}: {result.error or _DIVERGED}")
    return len(seeds) * steps / seconds
