"""Rewards: telling, and of a size that action values can follow."""

import math

import numpy as np

from upright.checks.recording import Recording
from upright.finding import Finding

_SPARSE = 0.005  # share of the steps that tell something
_LOW, _HIGH = 1.0, 1000.0  # action values should lie between
_FAR = 100.0  # times beyond these nothing is learned


def check(recording: Recording) -> list[Finding]:
    """Whether they tell one action from another."""
    rewards = recording.reward
    values, counts = np.unique(rewards, return_counts=True)
    usual, most = float(values[counts.argmax()]), int(counts.max())
    # An end tells something where each step before it was worth something.
    telling = (rewards != usual) | (recording.terminated & (usual != 0))
    if telling.sum() < _SPARSE * len(rewards):
        what = "always" if most == len(rewards) else f"in all but {len(rewards) - most} steps"
        return [
            Finding(
                "rewards",
                "advice",
                f"{usual:g} {what}, {recording.terminated.sum()} terminations: sparse",
                "explore for longer (agent.epsilon_decay_steps), or reward the way to the goal too",
            )
        ]
    if len(values) == 1:
        ends = "later" if usual > 0 else "sooner"
        return [Finding("rewards", "fine", f"{usual:g} in every step: ending {ends} pays")]
    text = f"{values[0]:.3g} to {values[-1]:.3g}, mean {rewards.mean():.3g}"
    return [Finding("rewards", "fine", text)]


def check_scale(recording: Recording, gamma: float, episode_steps: int | None) -> list[Finding]:
    """What an action value may come to: |r| times the sum of the discounts, 1 / (1 - gamma)."""
    sizes = np.abs(recording.reward)
    if not sizes.any():
        return []
    horizon = _horizon(gamma, episode_steps)
    if math.isinf(horizon):
        return [
            Finding(
                "reward scale",
                "advice",
                f"gamma {gamma:g} and no time limit: action values grow without end",
                "set agent.gamma below 1, or max_episode_steps",
            )
        ]
    usual, largest = float(sizes.mean()), float(sizes.max())
    low, high = largest * horizon, usual * horizon
    value, word = (high, "about") if high >= _LOW else (low, "at most")
    seen = (
        f"|r| is {_short(usual)}, at most {_short(largest)}; over {horizon:.0f} steps (gamma"
        f" {gamma:g}) {word} {_short(value)}"
    )
    if low >= _LOW and high <= _HIGH:
        return [Finding("reward scale", "fine", seen)]
    factor = 10.0 ** round(math.log10(math.sqrt(_LOW * _HIGH) / value))
    far = high > _HIGH * _FAR or low < _LOW / _FAR
    return [
        Finding(
            "reward scale",
            "problem" if far else "advice",
            f"{seen}; good is {_LOW:g} to {_HIGH:g}",
            f"gymnasium.wrappers.TransformReward(env, lambda r: {factor:g} * r)",
        )
    ]


def _horizon(gamma: float, episode_steps: int | None) -> float:
    """Sum of the discounts over an episode [steps]."""
    if gamma == 1:
        return math.inf if episode_steps is None else float(episode_steps)
    rest = 0.0 if episode_steps is None else gamma**episode_steps
    return (1 - rest) / (1 - gamma)


def _short(number: float) -> str:
    return f"{number:,.0f}" if 99.5 <= number < 1e9 else f"{number:.2g}"
