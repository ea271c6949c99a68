"""Greedy episodes of a policy in Gymnasium's own environment: the final judgement."""

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Registers upright/CartPole-v1 and the others.
import upright.bridge  # noqa: F401  # pyright: ignore[reportUnusedImport]
from upright.bridge.factory import Factory
from upright.calling import names_checked, whole
from upright.errors import UprightError, UprightWarning, shown
from upright.evaluation.conditions import Conditions, conditions, open_env
from upright.evaluation.players import Episodes, NativeEpisodes, Observer, Played
from upright.policy import Policy
from upright.runs import Run, find_policy
from upright.tasks import catalogue
from upright.tasks.catalogue import Physics

TOGETHER = 100  # of our own environments, in one call
_ORIGINALS = 10  # of Gymnasium's own: so many in step are faster, and more are not
_MOST_EPISODES = 1_000_000


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Returns of single episodes; each can be repeated alone with its reset seed."""

    returns: NDArray[np.float64]  # [episode], undiscounted
    lengths: NDArray[np.int64]  # [episode], in steps
    reset_seeds: tuple[int, ...]  # for `env.reset(seed=...)`
    changes: tuple[str, ...] = ()  # of what the policy was trained with, in words
    cut: int = 0  # episodes that had not come to an end when they were cut off

    @classmethod
    def of(cls, played: Played, reset_seeds: Sequence[int]) -> "Evaluation":
        """What was played from these start states."""
        cut = int(played.cut.sum())
        return cls(played.returns, played.lengths, tuple(reset_seeds), cut=cut)

    def __repr__(self) -> str:
        mean, worst = float(self.returns.mean()), float(self.returns.min())
        return f"Evaluation({len(self.returns)} episodes: mean return {mean:g}, worst {worst:g})"

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


@names_checked
def evaluate(
    policy: Policy | Run | str | Path,
    *,
    task: str | Factory | None = None,
    episodes: int = 100,
    seed: int = 0,
    randomised: bool = False,
    max_steps: int | None = None,
    physics: Physics | None = None,
    env: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
) -> Evaluation:
    """Greedy episodes of a policy in Gymnasium's environment of its task.

    `policy`: one, or its file; of a run or its folder the best one (`run.policies()` has all).
    It is judged with the physics that it was trained for: in `upright/CartPole-v1` where these are
    not Gymnasium's own. `physics` and `env` change some of them, and arguments of the environment
    itself; `task` is another one, whose observations and actions must fit: its id, or a function
    that makes it. What was changed is in the `changes` of the evaluation. `randomised`: those
    parameters that were drawn anew for each episode of its training are so here, too; else they
    have their nominal values.
    The same `seed` gives the same start states.
    Episodes are cut off after `max_steps`; if it is not given, after 1,000 where the task has no
    time limit. An UprightWarning says how many. `observer` is told what is done.

    Raises UprightError if the policy does not fit the environment or the environment fails, and
    Stopped if the observer cancelled it.
    """
    if max_steps is not None:
        max_steps = whole("max_steps", max_steps, at_least=1)
    episodes, seed = whole("episodes", episodes, at_least=1), whole("seed", seed, at_least=0)
    if episodes > _MOST_EPISODES:
        raise UprightError(f"episodes is {shown(episodes)}; it must be at most {_MOST_EPISODES:,}")
    chosen = find_policy(policy)
    where = conditions(chosen, task, randomised, physics, env)
    evaluation = judge(chosen, where, episodes, seed, max_steps, observer or Observer())
    if evaluation.cut:
        warnings.warn(
            f"{where.task}: {evaluation.cut} of {episodes} episodes had no end and were cut off"
            f" after {evaluation.lengths.max():,} steps",
            UprightWarning,
            stacklevel=3,
        )
    return evaluation


def judge(
    policy: Policy,
    where: Conditions,
    episodes: int,
    seed: int,
    max_steps: int | None,
    observer: Observer,
) -> Evaluation:
    """As `evaluate`, which is the same with a warning; this one does its work in any thread."""
    reset_seeds = start_seeds(seed, episodes)
    with contextlib.closing(_player(policy, where, episodes)) as player:
        played = player.run(policy, reset_seeds, max_steps, observer=observer)
    return replace(Evaluation.of(played, reset_seeds), changes=where.changes)


def _player(policy: Policy, where: Conditions, episodes: int) -> Episodes | NativeEpisodes:
    """Of one environment, unless it is known that several do not disturb each other."""
    env = open_env(policy, where)
    # By the name that was asked for: somebody's wrapper around ours may tell of ours.
    native = catalogue.is_native(where.task) and not where.factory
    name = env.spec.id if env.spec and native else ""
    # A Choice may also act on a continuous input, which is spelled out by one environment.
    alike = env.action_space.shape == env.env.action_space.shape
    if name.startswith("upright/") and alike:
        with contextlib.closing(env):
            return NativeEpisodes(env, min(episodes, TOGETHER))
    count = min(episodes, _ORIGINALS) if catalogue.is_original(name) else 1
    return Episodes([env, *(open_env(policy, where) for _ in range(count - 1))])


def start_seeds(seed: int, episodes: int) -> tuple[int, ...]:
    """For `env.reset(seed=...)`: the start states that belong to a seed of an evaluation."""
    return tuple(np.random.SeedSequence(seed).generate_state(episodes).tolist())
