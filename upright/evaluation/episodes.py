"""Greedy episodes of a policy in Gymnasium's own environment: the final judgement."""

import contextlib
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

# Registers upright/CartPole-v1 and the others.
import upright.bridge  # noqa: F401  # pyright: ignore[reportUnusedImport]
from upright.bridge import flat
from upright.errors import UprightError, UprightWarning, one_line
from upright.evaluation import MOST_STEPS
from upright.policy import Policy, load_policy
from upright.spec import Choice, Continuous
from upright.tasks import catalogue

_TOGETHER = 100  # environments in memory at a time


@dataclass(frozen=True)
class Evaluation:
    """Returns of single episodes; each can be repeated alone with its reset seed."""

    returns: NDArray[np.float64]  # [episode], undiscounted
    lengths: NDArray[np.int64]  # [episode], in steps
    reset_seeds: tuple[int, ...]  # for `env.reset(seed=...)`
    cut: int = 0  # episodes without an end, of a task without a time limit: ended by `MOST_STEPS`

    def summary(self) -> dict[str, Any]:
        """Mean and worst first; plain JSON values."""
        worst = int(self.returns.argmin())
        return {
            "mean_return": float(self.returns.mean()),
            "worst_return": float(self.returns[worst]),
            "worst_reset_seed": self.reset_seeds[worst],
            "std_return": float(self.returns.std()),
            "mean_length": float(self.lengths.mean()),
            "episodes": len(self.returns),
            "cut_episodes": self.cut,
        }


class Played(NamedTuple):
    """Some episodes."""

    returns: NDArray[np.float64]  # [episode], undiscounted
    lengths: NDArray[np.int64]  # [episode], in steps
    cut: NDArray[np.bool_]  # [episode], had not come to an end after `MOST_STEPS`


class Stopped(Exception):  # noqa: N818  (no error: it was asked for)
    """An evaluation was ended before its time."""


Stop = Callable[[], bool]  # asked before each step: True ends the work


def evaluate(
    policy: Policy | str | Path,
    *,
    task: str | None = None,
    episodes: int = 100,
    seed: int = 0,
    randomised: bool = False,
    stop: Stop = lambda: False,
) -> Evaluation:
    """Greedy episodes of a policy, or of a policy file, in Gymnasium's environment of its task.

    That is, with the physics that it was trained for: in `upright/CartPole-v1` where these are
    not Gymnasium's own. `randomised`: those parameters that were drawn anew for each episode of its
    training are so here, too; else they have their nominal values.
    The same `seed` gives the same start states. With `task`, a policy for another one is refused.
    An episode that has no end, of a task without a time limit, is cut after 10,000 steps, with an
    UprightWarning.

    Raises UprightError if the policy does not fit the environment or the environment fails, and
    Stopped if `stop()`, asked before each step, was True.
    """
    if episodes < 1:
        raise UprightError(f"episodes is {episodes}; it must be at least 1")
    if seed < 0:
        raise UprightError(f"seed is {seed}; it must be at least 0")
    policy = policy if isinstance(policy, Policy) else load_policy(policy)
    reset_seeds = start_seeds(seed, episodes)
    parts: list[Played] = []
    for first in range(0, episodes, _TOGETHER):
        some = reset_seeds[first : first + _TOGETHER]
        env = make_env(policy, task, randomised)
        ours = env.spec is not None and env.spec.id.startswith("upright/")
        if ours:
            player = NativeEpisodes(env, some)
        else:
            player = Episodes(lambda: make_env(policy, task, randomised), some)
        env.close()
        with contextlib.closing(player):
            parts.append(player.run(policy, stop))
    returns, lengths, cuts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    cut = int(cuts.sum())
    if cut:
        warnings.warn(
            f"{policy.spec.task} has no time limit: {cut} of {episodes} episodes were cut off after"
            f" {MOST_STEPS:,} steps",
            UprightWarning,
            stacklevel=2,
        )
    return Evaluation(returns, lengths, reset_seeds, cut)


def start_seeds(seed: int, episodes: int) -> tuple[int, ...]:
    """For `env.reset(seed=...)`: the start states that belong to a seed of an evaluation."""
    return tuple(np.random.SeedSequence(seed).generate_state(episodes).tolist())


class Episodes:
    """Greedy episodes from fixed start states, in environments that stay open."""

    def __init__(self, make: Callable[[], flat.Flat], reset_seeds: Sequence[int]):
        self._make = make
        self._reset_seeds = reset_seeds
        self._envs: list[flat.Flat] = []

    def run(self, policy: Policy, stop: Stop = lambda: False) -> Played:
        """In step, so that the policy acts on all observations at once.

        Raises UprightError if an environment fails, Stopped if `stop()`.
        """
        if not self._envs:
            self._envs = [self._make() for _ in self._reset_seeds]
        episodes = len(self._envs)
        observations = np.stack([self._guarded(i, "reset")[0] for i in range(episodes)])
        returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
        running = np.arange(episodes)
        most = MOST_STEPS if policy.spec.episode_steps is None else np.inf
        while len(running) and lengths.max() < most:
            if stop():
                raise Stopped
            strange = running[~np.isfinite(observations[running]).all(axis=1)].tolist()
            if strange:
                raise self._not_finite(strange[0], f"observation {observations[strange[0]]}")
            actions = command(policy, observations[running])
            going_on = np.ones(len(running), bool)
            for index, episode in enumerate(running.tolist()):
                observation, reward, terminated, truncated, _ = self._guarded(
                    episode, "step", actions[index]
                )
                observations[episode] = observation
                returns[episode] += float(reward)
                if not math.isfinite(returns[episode]):
                    raise self._not_finite(episode, f"reward {reward}")
                lengths[episode] += 1
                going_on[index] = not (terminated or truncated)
            running = running[going_on]
        cut = np.zeros(episodes, np.bool_)
        cut[running] = True
        return Played(returns, lengths, cut)

    def close(self) -> None:
        for env in self._envs:
            env.close()

    def _not_finite(self, episode: int, what: str) -> UprightError:
        seed = self._reset_seeds[episode]
        return UprightError(f"the environment's {what} is not finite (reset seed {seed})")

    def _guarded(self, episode: int, what: Literal["reset", "step"], *action: Any) -> Any:
        env, seed = self._envs[episode], self._reset_seeds[episode]
        try:
            return env.reset(seed=seed) if what == "reset" else env.step(*action)
        except (Exception, SystemExit) as error:
            name = type(error).__name__
            raise UprightError(
                f"the environment raised {name}: {one_line(error)} (reset seed {seed})"
            ) from error


class NativeEpisodes:
    """As `Episodes`, of one of our own environments: one compiled call steps all of them."""

    def __init__(self, env: flat.Flat, reset_seeds: Sequence[int]):
        """`env`: one such environment; the others have its physics."""
        assert env.spec is not None
        options = {name: value for name, value in env.spec.kwargs.items() if name != "task"}
        self._envs: Any = gym.make_vec(
            env.spec.id, len(reset_seeds), vectorization_mode="vector_entry_point", **options
        )
        self._reset_seeds = reset_seeds

    def run(self, policy: Policy, stop: Stop = lambda: False) -> Played:
        """Whose episode has ended goes on with another one, which does not count."""
        episodes = len(self._reset_seeds)
        observations, _ = self._envs.reset(seed=list(self._reset_seeds))
        returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
        running = np.ones(episodes, np.bool_)
        most = policy.spec.episode_steps or MOST_STEPS
        while running.any() and lengths.max() < most:
            if stop():
                raise Stopped
            # Whatever has ended is of no interest, a NaN included.
            seen = np.where(running[:, None], observations, 0)
            actions = command(policy, seen.astype(np.float32))
            observations, rewards, terminated, truncated, _ = self._envs.step(actions)
            returns += np.where(running, rewards, 0)
            lengths += running
            strange = running & ~np.isfinite(returns + observations.sum(axis=1))
            if strange.any():
                seed = self._reset_seeds[int(strange.argmax())]
                raise UprightError(f"an observation or reward is not finite (reset seed {seed})")
            running &= ~(terminated | truncated)
        return Played(returns, lengths, running)

    def close(self) -> None:
        self._envs.close()


def command(policy: Policy, observation: NDArray[np.float32]) -> Any:
    """What the environment of `make_env` is given: the index of a Choice, else the values."""
    chooses = isinstance(policy.spec.action, Choice)
    return policy.choose(observation) if chooses else policy.act(observation)


def make_env(
    policy: Policy, task: str | None = None, randomised: bool = False, **options: Any
) -> flat.Flat:
    """Gymnasium's environment for a policy, with its physics; `randomised` as in `evaluate`.

    `task` is what the user typed; only then the module in an id like "my_robot:Arm-v0" is imported,
    since the policy may be a stranger's file. Raises UprightError if the two do not fit.
    """
    known, provenance = policy.spec.task, policy.provenance
    if task and catalogue.bare(task) != catalogue.bare(known):
        raise UprightError(f"the policy is for {known}, not for {task}")
    if task:
        catalogue.load(task)
    if randomised and not provenance.randomise:
        raise UprightError("the policy was trained without randomised physics")
    name = catalogue.bare(known)
    if not catalogue.is_native(name) and name not in gym.registry:
        module = known if ":" in known else f"MODULE:{known}"
        raise UprightError(
            f"task {known!r} is not known here; if a module of yours or one that you trust has it:"
            f" --task {module}"
        )
    ranges = provenance.randomise if randomised else None
    name, physics = catalogue.environment(name, provenance.physics, ranges)
    env = flat.make_env(name, policy.spec.action, **physics, **options)
    mine = _shape(policy.spec.observation_size, policy.spec.action)
    theirs = _shape(env.observation_size, env.action)
    if mine != theirs:
        env.close()
        raise UprightError(f"the policy has {mine}; {name} has {theirs}")
    return env


def _shape(observations: int, action: Choice | Continuous) -> str:
    kind = "action" if isinstance(action, Choice) else "continuous action"
    counts = (observations, "observation"), (action.count, kind)
    return " and ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts)
