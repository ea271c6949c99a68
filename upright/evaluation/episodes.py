"""Greedy episodes of a policy in Gymnasium's own environment: the final judgement."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from upright.errors import UprightError
from upright.policy import Policy


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
    policy: Policy, *, task: str | None = None, episodes: int = 100, seed: int = 0
) -> Evaluation:
    """Runs greedy episodes in `gymnasium.make(task)`; by default in the policy's own task.

    The same `seed` gives the same start states. Raises UprightError if the policy does not fit.
    """
    if episodes < 1:
        raise UprightError(f"episodes is {episodes}; it must be at least 1")
    if seed < 0:
        raise UprightError(f"seed is {seed}; it must be at least 0")
    reset_seeds = tuple(np.random.SeedSequence(seed).generate_state(episodes).tolist())
    envs = [make_env(policy, task) for _ in range(episodes)]
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
    for env in envs:
        env.close()
    return Evaluation(returns, lengths, reset_seeds)


def make_env(policy: Policy, task: str | None = None, **options: Any) -> "gym.Env[Any, Any]":
    """Gymnasium's environment for a policy. Raises UprightError if the two do not fit."""
    name = task or policy.spec.task
    if name != policy.spec.task:
        raise UprightError(f"the policy is for {policy.spec.task}, not for {name}")
    try:
        env = gym.make(name, disable_env_checker=True, **options)
    except gym.error.Error as error:
        raise UprightError(f"task {name!r}: {error}") from None
    expected = (policy.spec.observation_size,), policy.spec.action_count
    found = env.observation_space.shape, getattr(env.action_space, "n", None)
    if found != expected:
        raise UprightError(
            f"the policy has observation {expected[0]} and {expected[1]} actions;"
            f" {name} has {found[0]} and {found[1]}"
        )
    return env
