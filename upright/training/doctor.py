"""What may be wrong with a task or a schedule, before hours are spent on learning from it."""

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from upright.agents.dqn import DQN
from upright.bridge.flat import SpacesError
from upright.bridge.spec import read_spec
from upright.checks import delay, determinism, ends, observations, rewards, schedule, speed
from upright.checks.recording import Recording, record
from upright.errors import UprightError
from upright.finding import Finding
from upright.spec import Spec
from upright.tasks import NAMES
from upright.training import engine
from upright.training.config import Config
from upright.training.drivers import find_task, make_driver
from upright.training.fleet import NO_LIMIT, Driver, Fleet, Order, cores
from upright.training.presets import find_preset
from upright.training.seeds import check_seeds, read_seeds
from upright.training.session import CHUNK

RANDOM_STEPS = 2000
_SPEED_SECONDS = 2.0  # that environments may take while the speed is measured
_SPEED_STEPS = 4000  # over all seeds, of each of the two halves of that measurement

_DIVERGED = "the loss is not finite any more"

Watch = Callable[[str, float], None]  # what is done, and which share of all


@dataclass(frozen=True)
class Report:
    """All that was looked at."""

    task: str
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "problem")


def doctor(
    task: str = "CartPole-v1",
    *,
    preset: str = "default",
    agent: DQN | None = None,
    seeds: int | str | Iterable[Any] = 20,
    steps: int | None = None,
    episodes: int | None = None,
    seed: int = 0,
    watch: Watch = lambda phase, fraction: None,
) -> Report:
    """Plays 2,000 random steps, replays some, times the learner, and reports what it finds.

    `task`, `preset`, `agent`, `seeds` and the budget are those of the `train` that is meant.
    `seed`: of the random actions and the start states.

    Raises UprightError on bad input. A task that exists and is not for the agent is a finding.
    """
    check_seeds([seed])
    settings = agent or find_preset(preset).agent
    config = _config(task, preset, settings, seeds, steps, episodes)
    native, make = find_task(task)
    try:
        env = make()
    except SpacesError as error:
        return Report(task, (Finding("spaces", "problem", error.seen, error.fix),))
    with closing(env):
        spec = native or read_spec(env, task)
        played = record(env, RANDOM_STEPS, seed, partial(watch, "random steps"))
    spaces = f"{spec.observation_size} observations, {spec.action_size} actions"
    findings = [Finding("spaces", "fine", spaces)]
    if played.failure:
        fix = "make it play at random without an error; nothing else was checked"
        return Report(task, (*findings, Finding("environment", "problem", played.failure, fix)))
    findings += _of_the_task(played, spec, settings)
    watch("playing again", 0.0)
    findings += determinism.check(determinism.replay(make, seed))
    budget = float(config.steps or (config.episodes or 0) * played.lengths.mean())
    findings += schedule.check(settings, budget, int(played.lengths.max()))
    watch("timing the learner", 0.0)
    findings += _timed(config, settings, RANDOM_STEPS / played.seconds, budget)
    return Report(task, tuple(findings))


def cheap_checks(config: Config, spec: Spec) -> list[Finding]:
    """Without having played: what `train` warns of."""
    longest = float("inf") if spec.episode_steps is None else spec.episode_steps
    budget = float(config.steps or (config.episodes or 0) * longest)
    findings = [*schedule.check(config.agent, budget), *ends.declared_limit(spec.episode_steps)]
    return [finding for finding in findings if finding.severity != "fine"]


def _config(
    task: str,
    preset: str,
    agent: DQN,
    seeds: int | str | Iterable[Any],
    steps: int | None,
    episodes: int | None,
) -> Config:
    """Of the training that is meant; checked, apart from its schedules."""
    if steps is None and episodes is None:
        steps, episodes = find_preset(preset).steps, find_preset(preset).episodes
    return Config(
        task=task,
        driver="fused" if task in NAMES else "stepwise",
        preset=preset,
        agent=replace(agent, warmup_steps=0),  # one beyond the budget is a finding
        seeds=read_seeds(seeds),
        steps=steps,
        episodes=episodes,
        evaluate_every=CHUNK,
        evaluation_episodes=50,  # as `train` does: what is compiled here is kept for it
        checkpoint_every=CHUNK,
    )


def _of_the_task(played: Recording, spec: Spec, agent: DQN) -> list[Finding]:
    return [
        *observations.check(played, spec, agent.scale_observations),
        *rewards.check(played),
        *rewards.check_scale(played, agent.gamma, spec.episode_steps),
        *ends.check_termination(played),
        *ends.check_time_limit(played, spec.episode_steps),
        *delay.check(played, spec.action_size),
    ]


def _timed(config: Config, agent: DQN, environment: float, budget: float) -> list[Finding]:
    """The real thing for a moment, with as many seeds. `environment`: steps per second alone."""
    engine.prepare()
    compiled = config.driver == "fused"
    # Each compiled seed is a piece of work of its own: more than there are cores tell no more.
    seeds = config.seeds[: cores()] if compiled else config.seeds
    steps = CHUNK
    if not compiled:
        affordable = min(environment * _SPEED_SECONDS / 2, _SPEED_STEPS) / len(seeds)
        steps = int(np.clip(affordable, 10, CHUNK))
    warm = replace(agent, warmup_steps=min(agent.warmup_steps, steps - 1))
    try:
        rate = _rate(make_driver(replace(config, agent=warm)), seeds, steps)
    except (_FailedError, UprightError, jax.errors.JaxRuntimeError) as error:
        return [_failed(error)]
    measured = speed.Speed(environment, rate, min(cores(), len(seeds)), compiled)
    return speed.check(measured, budget, len(config.seeds))


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


def _rate(driver: Driver, seeds: tuple[int, ...], steps: int) -> float:
    """Steps per second of all seeds together, once they learn. Raises _FailedError."""
    with Fleet(driver.crews(seeds, None, pulse=lambda steps: False)) as fleet:
        seconds = 0.0
        for _ in ("warm up", "measure"):
            left = set(seeds)

            def once(seed: int, left: set[int] = left) -> Order | None:
                if seed not in left:
                    return None
                left.remove(seed)
                return Order(steps, NO_LIMIT, evaluate=False)

            begin = time.perf_counter()
            results = list(fleet.run(once))
            seconds = time.perf_counter() - begin
            for result in results:
                if result.error or not result.healthy:
                    raise _FailedError(f"seed {result.seed}: {result.error or _DIVERGED}")
    return len(seeds) * steps / seconds
