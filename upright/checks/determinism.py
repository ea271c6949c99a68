"""Determinism: the same seed and actions must give the same bits."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from upright.bridge.flat import Flat
from upright.checks.recording import random_actions
from upright.finding import Finding

_EPISODES, _STEPS = 3, 200  # of each at most


@dataclass(frozen=True)
class PlayedAgain:
    """The same episodes, each as [episode][step, reward and ends and observation]."""

    first: list[Float[np.ndarray, "_ _"]]
    fresh: list[Float[np.ndarray, "_ _"]]  # in another, fresh environment
    again: list[Float[np.ndarray, "_ _"]]  # in the first one, after other episodes


def play_again(make: Callable[[], Flat], seed: int) -> PlayedAgain:
    """Plays some episodes three times."""
    with closing(make()) as env, closing(make()) as other:
        first = [_play(env, seed + episode) for episode in range(_EPISODES)]
        fresh = [_play(other, seed + episode) for episode in range(_EPISODES)]
        return PlayedAgain(first, fresh, [_play(env, seed)])


def check(played: PlayedAgain) -> list[Finding]:
    """Bit for bit, NaN included."""
    difference = _difference(played.first, played.fresh)
    if difference:
        return [
            Finding(
                "determinism",
                "problem",
                f"the same seed and actions gave {difference}",
                "draw from self.np_random alone, and call super().reset(seed=seed) in reset()",
            )
        ]
    difference = _difference(played.first[:1], played.again)
    if difference:
        return [
            Finding(
                "determinism",
                "problem",
                f"after other episodes the same seed and actions gave {difference}",
                "reset() leaves something behind: set all of the state anew there",
            )
        ]
    steps = sum(len(episode) - 1 for episode in played.first)
    return [Finding("determinism", "fine", f"{steps} steps played again, the same bits")]


def _play(env: Flat, seed: int) -> Float[np.ndarray, "_ _"]:
    """One episode; its rows: reward, terminated, truncated, observation."""
    observation, _ = env.reset(seed=seed)
    rows = [np.array([0.0, 0.0, 0.0, *observation])]
    for action in random_actions(env, _STEPS, seed):
        observation, reward, terminated, truncated, _ = env.step(action)
        rows.append(np.array([float(reward), terminated, truncated, *observation]))
        if terminated or truncated:
            break
    return np.stack(rows)


def _difference(
    these: list[Float[np.ndarray, "_ _"]], those: list[Float[np.ndarray, "_ _"]]
) -> str:
    """The first one, in words; empty if there is none."""
    for one, other in zip(these, those, strict=True):
        steps = min(len(one), len(other))
        a, b = one[:steps], other[:steps]
        differs = ~((a == b) | (np.isnan(a) & np.isnan(b)))
        if differs.any():
            step, column = np.argwhere(differs)[0].tolist()
            names = ("reward", "terminated", "truncated")
            name = names[column] if column < 3 else f"observation[{column - 3}]"
            return f"{name} {a[step, column]:.6g} and {b[step, column]:.6g} in step {step}"
    return ""
