"""Determinism: the same seed and actions must give the same bits."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import data_equivalence
from jaxtyping import Float

from upright.bridge.flat import Env, Flat
from upright.bridge.wrappers import chain, sample
from upright.checks.recording import random_actions
from upright.finding import Finding

_EPISODES, _STEPS = 3, 200  # of each at most
_GLANCE_STEPS = 16

Rows = Float[np.ndarray, "_ _"]  # of an episode: reward, terminated, truncated, observation


@dataclass(frozen=True)
class Played:
    """Some episodes in one environment, and then the first one again."""

    first: list[Rows]
    again: Rows
    # the innermost layer of the environment that does not do the same again, if it is a wrapper
    keeper: str = ""


def play(env: Flat, seed: int, count: int = _EPISODES, steps: int = _STEPS) -> Played:
    """Random episodes as of `episodes`, and the first one again."""
    first = episodes(env, seed, count, steps)
    again = episodes(env, seed, 1, steps)
    keeper = _keeper(env, seed) if difference(first[:1], again) else ""
    return Played(first, again[0], keeper)


def episodes(env: Flat, seed: int, count: int = _EPISODES, steps: int = _STEPS) -> list[Rows]:
    """Random episodes with the reset seeds from `seed` on, each cut off after so many steps."""
    return [np.stack(list(rows(env, seed + i, steps))) for i in range(count)]


def check(played: Played, fresh: list[Rows]) -> list[Finding]:
    """`fresh`: the first episodes in another environment. Bit for bit."""
    differs = difference(played.first, fresh)
    if differs:
        return [
            Finding(
                "determinism",
                "problem",
                f"the same seed and actions gave {differs}",
                "draw from self.np_random alone, and call super().reset(seed=seed) in reset()",
            )
        ]
    differs = difference(played.first[:1], [played.again])
    if differs:
        fix = "reset() leaves something behind: set all of the state anew there"
        if played.keeper:
            fix = (
                f"the wrapper {played.keeper} keeps something from episode to episode, as a running"
                " statistic: leave it out, or use constants"
            )
        seen = f"after other episodes the same seed and actions gave {differs}"
        return [Finding("determinism", "problem", seen, fix)]
    steps = sum(len(episode) - 1 for episode in played.first)
    return [Finding("determinism", "fine", f"{steps} steps played again, the same bits")]


def glance(env: Flat) -> Played | None:
    """A few steps; None if the environment fails, which a training then says better."""
    try:
        return play(env, 0, 2, _GLANCE_STEPS)
    except (Exception, SystemExit):  # the environment's own code
        return None


def check_glance(played: Played | None, make: Callable[[], Flat]) -> list[Finding]:
    """A reset to an earlier seed that leads elsewhere later, although it is no chance.

    Only then another environment is made, to see that chance is not the reason.
    """
    if played is None or not difference(played.first[:1], [played.again]):
        return []
    try:
        with closing(make()) as env:
            fresh = episodes(env, 0, 2, _GLANCE_STEPS)
    except (Exception, SystemExit):  # as above
        return []
    return [] if difference(played.first, fresh) else check(played, fresh)


def rows(env: Flat, seed: int, steps: int) -> Generator[Float[np.ndarray, " _"]]:
    """One episode, a row for the reset and one for each step; fewer steps are the same ones."""
    observation, _ = env.reset(seed=seed)
    yield np.array([0.0, 0.0, 0.0, *observation])
    for action in random_actions(env, _STEPS, seed)[:steps]:
        observation, reward, terminated, truncated, _ = env.step(env.permitted(action))
        yield np.array([float(reward), terminated, truncated, *observation])
        if terminated or truncated:
            break


def _keeper(env: Flat, seed: int) -> str:
    for layer in reversed(chain(env.env)):
        before = _raw(layer, seed)
        _raw(layer, seed + 1)
        if not data_equivalence(before, _raw(layer, seed), exact=True):
            return type(layer).__name__ if isinstance(layer, gym.Wrapper) else ""
    return ""


def _raw(layer: Env, seed: int) -> list[Any]:
    """A few steps of a layer, as it returns them."""
    layer.action_space.seed(seed)
    observation, info = layer.reset(seed=seed)
    seen: list[Any] = [observation]
    for _ in range(_GLANCE_STEPS):
        observation, reward, terminated, truncated, info = layer.step(sample(layer, info))
        seen.append((observation, reward, terminated, truncated))
        if terminated or truncated:
            break
    return seen


def difference(these: list[Rows], those: list[Rows]) -> str:
    """The first one, in words; empty if there is none."""
    for one, other in zip(these, those, strict=True):
        steps = min(len(one), len(other))
        a, b = one[:steps], other[:steps]
        differs = a != b
        if differs.any():
            step, column = np.argwhere(differs)[0].tolist()
            names = ("reward", "terminated", "truncated")
            name = names[column] if column < 3 else f"observation[{column - 3}]"
            return f"{name} {a[step, column]:.6g} and {b[step, column]:.6g} in step {step}"
    return ""
