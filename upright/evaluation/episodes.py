"""Greedy episodes of a policy in Gymnasium's own environment: the final judgement."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from upright.errors import UprightError
from upright.policy import Policy, load_policy

_TOGETHER = 100  # environments in memory at a time


@dataclass(frozen=True)
class Evaluation:
    """Returns of single episodes; each can be repeated alone with its reset seed."""

    returns: NDArray[np.float64]  # [episode], undiscounted
    lengths: NDArray[np.int64]  # [episode], in steps
    reset_seeds: tuple[int, ...]  # for `env.reset(seed=...)`

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
        }


def evaluate(
    policy: Policy | str | Path, *, task: str | None = None, episodes: int = 100, seed: int = 0
) -> Evaluation:
    """Greedy episodes of a policy, or of a policy file, in Gymnasium's environment of its task.

    The same `seed` gives the same start states. With `task`, a policy for another one is refused.
    Raises UprightError if the policy does not fit the environment.
    """
    if episodes < 1:
        raise UprightError(f"episodes is {episodes}; it must be at least 1")
    if seed < 0:
        raise UprightError(f"seed is {seed}; it must be at least 0")
    policy = policy if isinstance(policy, Policy) else load_policy(policy)
    reset_seeds = tuple(np.random.SeedSequence(seed).generate_state(episodes).tolist())
    parts = [
        _run_together(policy, task, reset_seeds[first : first + _TOGETHER])
        for first in range(0, episodes, _TOGETHER)
    ]
    returns, lengths = map(np.concatenate, zip(*parts, strict=True))
    return Evaluation(returns, lengths, reset_seeds)


def _run_together(
    policy: Policy, task: str | None, reset_seeds: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns and lengths of some episodes in step, so that the policy acts on all at once."""
    episodes = len(reset_seeds)
    with contextlib.ExitStack() as stack:
        envs = [
            stack.enter_context(contextlib.closing(make_env(policy, task))) for _ in range(episodes)
        ]
        observations = np.stack(
            [env.reset(seed=s)[0] for env, s in zip(envs, reset_seeds, strict=True)]
        )
        returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
        running = np.arange(episodes)
        while len(running):
            actions = policy.act(observations[running])
            going_on = np.ones(len(running), bool)
            for index, (episode, action) in enumerate(zip(running, actions, strict=True)):
                observation, reward, terminated, truncated, _ = envs[episode].step(action)
                observations[episode] = observation
                returns[episode] += float(reward)
                lengths[episode] += 1
                going_on[index] = not (terminated or truncated)
            running = running[going_on]
    return returns, lengths


def make_env(policy: Policy, task: str | None = None, **options: Any) -> "gym.Env[Any, Any]":
    """Gymnasium's environment for a policy. Raises UprightError if the two do not fit."""
    name = task or policy.spec.task
    if name != policy.spec.task:
        raise UprightError(f"the policy is for {policy.spec.task}, not for {name}")
    # A name with a colon would import a module, and the name may come from a stranger's file.
    if name not in gym.registry:
        raise UprightError(f"task {name!r} is not known to Gymnasium")
    try:
        env = gym.make(name, disable_env_checker=True, **options)
    except gym.error.Error as error:
        raise UprightError(f"task {name!r}: {error}") from None
    if isinstance(env.action_space, gym.spaces.Box) and env.action_space.shape == (1,):
        env = _choose_among(env, policy.spec.action_values)
    expected = (policy.spec.observation_size,), policy.spec.action_count
    found = env.observation_space.shape, getattr(env.action_space, "n", None)
    if found != expected:
        env.close()
        raise UprightError(
            f"the policy has observation {expected[0]} and {expected[1]} actions;"
            f" {name} has {found[0]} and {found[1]}"
        )
    return env


def _choose_among(env: "gym.Env[Any, Any]", values: tuple[float, ...]) -> "gym.Env[Any, Any]":
    """A continuous action as a choice among the values that the policy's actions set."""
    levels = np.array(values, np.float32)[:, None]
    return gym.wrappers.TransformAction(
        env, lambda action: levels[action], gym.spaces.Discrete(len(values))
    )
