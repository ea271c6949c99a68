"""What Gymnasium's wrappers do to an environment, and to what it tells of itself.

What the environment inside says of its observations, actions, rewards and time is true outside
where the wrappers between leave that alone.
"""

import copy
import inspect
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import wrappers as gymnasiums
from gymnasium.utils.env_checker import data_equivalence

from upright.bridge import masks
from upright.finding import UnfitError
from upright.spec import Spec

Env = gym.Env[Any, Any]
Part = Literal["observation", "action", "reward", "end", "time"]

_ALL: frozenset[Part] = frozenset(("observation", "action", "reward", "end", "time"))
# Those of Gymnasium that leave the numbers of a step alone. A time limit is told by `env.spec`.
_SILENT = (
    gym.Wrapper,
    gymnasiums.TimeLimit,
    gymnasiums.Autoreset,
    gymnasiums.OrderEnforcing,
    gymnasiums.PassiveEnvChecker,
    gymnasiums.RecordEpisodeStatistics,
    gymnasiums.RenderCollection,
    gymnasiums.RecordVideo,
    gymnasiums.HumanRendering,
    gymnasiums.AddWhiteNoise,
    gymnasiums.ObstructView,
)
# These change the shape of a Box alone, and for agents all observations are flat.
_RESHAPING = (gymnasiums.FlattenObservation, gymnasiums.ReshapeObservation)
_PROBE_STEPS = 64  # to see what an unknown wrapper does to a step
_SCALE_STEPS = 500  # to see what a NormalizeReward divides by


class StatefulWrapperError(UnfitError):
    """A wrapper of the task changes what its numbers mean while it is used."""

    check = "wrappers"


class Told(NamedTuple):
    """What an environment says of itself, and which parts of it are not true outside."""

    spec: Spec | None  # None: it says nothing
    changed: frozenset[Part]


def told(env: Env) -> Told:
    """The outermost `upright_spec` of the chain, and what the wrappers around its owner change.

    A wrapper may have one of its own. A wrapper that is not known, and does more than to transform
    observations, actions or rewards, is stepped some times to see what it changes.
    """
    changed: frozenset[Part] = frozenset()
    for layer in chain(env):
        # Not what a wrapper's __getattr__ would find further inside.
        if inspect.getattr_static(layer, "upright_spec", None) is not None:
            spec = getattr(layer, "upright_spec", None)
            if isinstance(spec, Spec):
                return Told(spec, changed)
        if isinstance(layer, gym.Wrapper):
            changed |= _changed_by(layer)
    return Told(None, changed)


def refuse_stateful(env: Env, task: str) -> None:
    """Raises StatefulWrapperError for a wrapper that normalises by running statistics.

    The same state then has other numbers later, and those statistics are in no policy file.
    """
    for layer in chain(env):
        name = type(layer).__name__
        if not getattr(layer, "update_running_mean", True):
            continue  # frozen, so a constant
        if isinstance(layer, gymnasiums.NormalizeObservation):
            raise StatefulWrapperError(
                task,
                f"{name} scales observations by running statistics, which no policy file holds",
                "leave that wrapper out: the agent scales observations itself, and its policy file"
                " holds the scaling (agent.scale_observations)",
            )
        if isinstance(layer, gymnasiums.NormalizeReward):
            raise StatefulWrapperError(
                task,
                f"{name} divides rewards by a running statistic, so returns cannot be compared",
                "divide by a constant instead: gymnasium.wrappers.TransformReward(env, lambda r: r"
                f" / {_reward_scale(layer)})",
            )


def chain(env: Env) -> list[Env]:
    """From the outermost wrapper to the environment itself, those two included."""
    layers = [env]
    while isinstance(layers[-1], gym.Wrapper):
        layers.append(layers[-1].env)
    return layers


def around_mask(env: Env) -> str:
    """The wrapper that changes actions, and not the mask that comes from inside; else empty."""
    for layer in chain(env):
        step = _step_is_in(layer)
        if inspect.getattr_static(layer, "action_masks", None) is not None:
            return ""
        if step is gym.ActionWrapper:
            return type(layer).__name__
        if step not in (*_SILENT, *_RESHAPING, gym.ObservationWrapper, gym.RewardWrapper):
            return ""  # it may give a mask of its own
    return ""


def sample(env: Env, info: Any) -> Any:
    """A random action, of those that are allowed after this info."""
    mask = masks.told(info, masks.method(chain(env)))
    if mask is None or not isinstance(env.action_space, gym.spaces.Discrete):
        return env.action_space.sample()
    return env.action_space.sample(np.asarray(mask, np.int8))


def _reward_scale(layer: gymnasiums.NormalizeReward[Any, Any]) -> str:
    """What it divides by after some random steps, to one digit."""
    try:
        for _ in _play(layer, _SCALE_STEPS):
            pass
    except (Exception, SystemExit):  # the environment's own code; the example is only an example
        return "100"
    return f"{float(f'{np.sqrt(layer.return_rms.var + layer.epsilon):.0e}'):g}"


def _changed_by(layer: gym.Wrapper[Any, Any, Any, Any]) -> frozenset[Part]:
    inner = layer.env
    if type(layer) in _RESHAPING and isinstance(inner.observation_space, gym.spaces.Box):
        return frozenset()
    changed: set[Part] = set()
    kinds: tuple[tuple[type, Part], ...] = (
        (gym.ObservationWrapper, "observation"),
        (gym.ActionWrapper, "action"),
        (gym.RewardWrapper, "reward"),
    )
    changed |= {part for kind, part in kinds if isinstance(layer, kind)}
    if layer.observation_space != inner.observation_space:
        changed.add("observation")
    if layer.action_space != inner.action_space:
        changed.add("action")
    if _step_is_in(layer) not in (*_SILENT, *(kind for kind, _ in kinds)):
        changed |= _seen_to_change(layer)
    return frozenset(changed)


def _step_is_in(layer: Env) -> type | None:
    """The class whose `step` it has; None if it has one of its own."""
    if "step" in vars(layer):
        return None
    return next(kind for kind in type(layer).__mro__ if "step" in vars(kind))


class _Spy(gym.Wrapper[Any, Any, Any, Any]):
    """Notes what goes in and out below a wrapper."""

    def __init__(self, env: Env):
        super().__init__(env)
        self.steps: list[tuple[Any, ...]] = []  # (action, observation, reward, the two ends)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)  # the wrapper may know more than Gymnasium's interface

    def step(self, action: Any) -> Any:
        given = copy.deepcopy(action)
        result = self.env.step(action)
        self.steps.append((given, *copy.deepcopy(result[:4])))
        return result


def _seen_to_change(layer: gym.Wrapper[Any, Any, Any, Any]) -> frozenset[Part]:
    """By random steps: what comes out is compared with what came out below it."""
    changed: set[Part] = set()
    try:
        with _spied(layer) as spy:
            for outside in _play(layer, _PROBE_STEPS):
                inside, spy.steps = spy.steps, []
                changed |= _differences(outside, inside)
    except (Exception, SystemExit):  # the environment's own code; nothing is known
        return _ALL
    return frozenset(changed)


@contextmanager
def _spied(layer: gym.Wrapper[Any, Any, Any, Any]) -> Generator[_Spy]:
    spy = _Spy(layer.env)
    layer.env = spy
    try:
        yield spy
    finally:
        layer.env = spy.env


def _play(layer: Env, steps: int) -> Generator[tuple[Any, ...]]:
    """Some random steps, as in `_Spy.steps`."""
    layer.action_space.seed(0)
    present, info = False, {}
    for number in range(steps):
        if not present:
            _, info = layer.reset(seed=number)
        action = sample(layer, info)
        given = copy.deepcopy(action)
        result = layer.step(action)
        info = result[4]
        present = not (result[2] or result[3])
        yield given, *result[:4]


def _differences(outside: tuple[Any, ...], inside: list[tuple[Any, ...]]) -> frozenset[Part]:
    """Between a step of a wrapper and the steps below it, which is one if time goes on as there."""
    if not inside:
        return _ALL
    changed: set[Part] = set()
    if len(inside) > 1:
        changed.add("time")
    last = inside[-1]
    if not all(_same(outside[0], step[0]) for step in inside):
        changed.add("action")
    if not _same(outside[1], last[1]):
        changed.add("observation")
    if not _same(outside[2], last[2]):
        changed.add("reward")
    if bool(outside[3]) != bool(last[3]):
        changed.add("end")
    return frozenset(changed)


def _same(one: Any, other: Any) -> bool:
    if np.ndim(one) == 0 and isinstance(one, np.generic | int | float):
        return bool(one == other)
    return data_equivalence(one, other, exact=True)
