"""What plays the greedy episodes of a policy: in Gymnasium, or all of ours in one call."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from upright.bridge.flat import Flat
from upright.bridge.values import EnvironmentFailedError
from upright.errors import UprightError
from upright.evaluation import MOST_STEPS
from upright.parameters import LARGEST
from upright.policy import Policy
from upright.spec import Choice


class Played(NamedTuple):
    """Some episodes."""

    returns: NDArray[np.float64]  # [episode], undiscounted
    lengths: NDArray[np.int64]  # [episode], in steps
    cut: NDArray[np.bool_]  # [episode], had not come to an end when it was cut off


class Stopped(Exception):  # noqa: N818  (no error: it was asked for)
    """An evaluation was ended before its time."""


class Observer:
    """Is told what is done while it is done, from any thread, and may end it; this one does not."""

    def cancelled(self) -> bool:
        """Whether to end early; asked before each step."""
        return False

    def stepped(self, steps: int) -> None:
        """So many steps were learned from."""

    def evaluated(self, steps: int, episodes: int) -> None:
        """So many steps were evaluated, and so many episodes came to their end."""


@dataclass
class Moment:
    """How far an episode is."""

    observation: NDArray[np.float32]
    mask: NDArray[np.bool_] | None  # of the actions that are allowed, if the task says so
    total: float = 0.0  # undiscounted return so far
    steps: int = 0
    ended: bool = False


def moments(
    env: Flat, policy: Policy, reset_seed: int, max_steps: int | None = None
) -> Generator[Moment]:
    """A greedy episode before each of its steps, and at its end; cut off as by `Episodes.run`.

    Raises UprightError if the environment fails.
    """
    try:
        now = Moment(env.reset(seed=reset_seed)[0], env.action_mask)
    except EnvironmentFailedError as error:
        raise _placed(error, reset_seed, 0) from error
    most = longest_episode(env) if max_steps is None else max_steps
    while not now.ended and now.steps < most:
        yield now
        action = command(policy, now.observation, now.mask)
        try:
            observation, reward, terminated, truncated, _ = env.step(action)
        except EnvironmentFailedError as error:
            raise _placed(error, reset_seed, now.steps + 1) from error
        total, ended = now.total + reward, terminated or truncated
        now = Moment(observation, env.action_mask, total, now.steps + 1, ended)
    yield now


class Episodes:
    """Greedy episodes from given start states, in environments that stay open.

    With one environment they come one after the other: there may be no second one, or it may share
    its simulator with the first. Several go in step, so that the policy acts on all at once.
    """

    def __init__(self, envs: Sequence[Flat]):
        self._envs = envs

    def run(
        self,
        policy: Policy,
        reset_seeds: Sequence[int],
        max_steps: int | None = None,
        *,
        in_all: int | None = None,
        observer: Observer | None = None,
    ) -> Played:
        """An episode is cut after `max_steps`; if None: where the environment has no limit.

        Raises UprightError if an environment fails or a return is beyond single precision, and
        Stopped if it was cancelled, or took more than `in_all` steps.
        """
        observer = observer or Observer()
        parts: list[Played] = []
        for first in range(0, len(reset_seeds), len(self._envs)):
            some = reset_seeds[first : first + len(self._envs)]
            parts.append(self._in_step(policy, some, max_steps, in_all, observer))
            if in_all is not None:
                in_all -= int(parts[-1].lengths.sum())
        return _joined(parts, reset_seeds)

    def close(self) -> None:
        for env in self._envs:
            env.close()

    def _in_step(
        self,
        policy: Policy,
        reset_seeds: Sequence[int],
        max_steps: int | None,
        in_all: int | None,
        observer: Observer,
    ) -> Played:
        envs, count = self._envs[: len(reset_seeds)], len(reset_seeds)
        returns, lengths = np.zeros(count), np.zeros(count, np.int64)
        running = list(range(count))
        most = longest_episode(self._envs[0]) if max_steps is None else max_steps
        one = running[0]
        try:
            observations = np.zeros((count, policy.spec.observation_size), np.float32)
            for one in running:
                observations[one] = envs[one].reset(seed=reset_seeds[one])[0]
            step = 0
            while running and step < most:
                if observer.cancelled() or (in_all is not None and lengths.sum() >= in_all):
                    raise Stopped
                step += 1
                masks = joined_masks([envs[one].action_mask for one in running])
                actions = command(policy, observations[running], masks)
                going_on: list[int] = []
                for one, action in zip(running, actions, strict=True):
                    lengths[one] = step
                    observations[one], reward, terminated, truncated, _ = envs[one].step(action)
                    returns[one] += reward
                    if not (terminated or truncated):
                        going_on.append(one)
                observer.evaluated(len(running), len(running) - len(going_on))
                running = going_on
        except EnvironmentFailedError as error:
            raise _placed(error, reset_seeds[one], int(lengths[one])) from error
        cut = np.zeros(count, np.bool_)
        cut[running] = True
        observer.evaluated(0, len(running))
        return Played(returns, lengths, cut)


class NativeEpisodes:
    """As `Episodes`, of one of our own environments: one compiled call steps all of them."""

    def __init__(self, env: Flat, most: int):
        """`env`: one such environment, the others have its physics; `most`: at a time."""
        assert env.spec is not None
        options = {name: value for name, value in env.spec.kwargs.items() if name != "task"}
        self._envs: Any = gym.make_vec(
            env.spec.id, most, vectorization_mode="vector_entry_point", **options
        )
        self._most = most
        self._longest = longest_episode(env)

    def run(
        self,
        policy: Policy,
        reset_seeds: Sequence[int],
        max_steps: int | None = None,
        *,
        observer: Observer | None = None,
    ) -> Played:
        """Whose episode has ended goes on with another one, which does not count."""
        observer = observer or Observer()
        parts: list[Played] = []
        for first in range(0, len(reset_seeds), self._most):
            some = list(reset_seeds[first : first + self._most])
            # The number of environments is fixed: what is left over plays along.
            filled = some + some[:1] * (self._most - len(some))
            parts.append(self._in_step(policy, filled, max_steps, observer))
        returns, lengths, cut = _joined(parts, reset_seeds)
        count = len(reset_seeds)
        return Played(returns[:count], lengths[:count], cut[:count])

    def close(self) -> None:
        self._envs.close()

    def _in_step(
        self, policy: Policy, reset_seeds: list[int], max_steps: int | None, observer: Observer
    ) -> Played:
        count = len(reset_seeds)
        observations, _ = self._envs.reset(seed=reset_seeds)
        returns, lengths = np.zeros(count), np.zeros(count, np.int64)
        running = np.ones(count, np.bool_)
        most = self._longest if max_steps is None else max_steps
        step = 0
        while running.any() and step < most:
            if observer.cancelled():
                raise Stopped
            step += 1
            # Whatever has ended is of no interest, a NaN included.
            seen = np.where(running[:, None], observations, 0)
            actions = command(policy, seen.astype(np.float32))
            observations, rewards, terminated, truncated, _ = self._envs.step(actions)
            returns += np.where(running, rewards, 0)
            lengths += running
            strange = running & ~np.isfinite(returns + observations.sum(axis=1))
            if strange.any():
                seed = reset_seeds[int(strange.argmax())]
                raise UprightError(f"an observation or reward is not finite (reset seed {seed})")
            ended = running & (terminated | truncated)
            observer.evaluated(int(running.sum()), int(ended.sum()))
            running &= ~ended
        observer.evaluated(0, int(running.sum()))
        return Played(returns, lengths, running)


def _placed(error: EnvironmentFailedError, reset_seed: int, step: int) -> UprightError:
    """The same, with its place, so that it can be looked for; step 0 is the reset."""
    step_of_it = f", step {step}" if step else ""
    return UprightError(f"{error} (reset seed {reset_seed}{step_of_it})")


def _joined(parts: Sequence[Played], reset_seeds: Sequence[int]) -> Played:
    """Raises UprightError where a return cannot be compared, nor written, in single precision."""
    returns = np.concatenate([part.returns for part in parts])
    beyond = np.abs(returns) > LARGEST
    if beyond.any():
        raise UprightError(
            f"the return is beyond {LARGEST:.2g} (reset seed {reset_seeds[int(beyond.argmax())]});"
            " divide all rewards by a constant"
        )
    return Played(
        returns=returns,
        lengths=np.concatenate([part.lengths for part in parts]),
        cut=np.concatenate([part.cut for part in parts]),
    )


def longest_episode(env: Flat) -> float:
    """Steps after which an episode is cut off if it was not asked otherwise: infinite where the
    environment ends by itself.
    """
    limited = env.spec is not None and env.spec.max_episode_steps is not None
    if limited or env.has_wrapper_attr("_max_episode_steps"):
        return math.inf
    own = getattr(env.unwrapped, "upright_spec", None)
    return float(getattr(own, "episode_steps", None) or MOST_STEPS)


def joined_masks(masks: Sequence[NDArray[np.bool_] | None]) -> NDArray[np.bool_] | None:
    """Those of some moments as one array; None if the task has none."""
    some = [mask for mask in masks if mask is not None]
    return np.stack(some) if some else None


def command(
    policy: Policy, observation: NDArray[np.float32], mask: NDArray[np.bool_] | None = None
) -> Any:
    """What the environment of `open_env` is given: the index of a Choice, else the values."""
    if isinstance(policy.spec.action, Choice):
        return policy.choose(observation, allowed(policy, observation, mask))
    return policy.act(observation)


def allowed(
    policy: Policy, observation: NDArray[np.float32], mask: NDArray[np.bool_] | None
) -> NDArray[np.bool_] | None:
    """The mask that a policy is given: all is allowed where it learned with masks, and the task
    that it is tried on has none.
    """
    if mask is None and policy.spec.masked:
        return np.ones((*observation.shape[:-1], policy.spec.action_size), np.bool_)
    return mask
