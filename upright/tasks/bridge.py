"""Gymnasium's environments, as agents and policies see them: numbers in, one of n actions out.

An id with a module before it ("my_robot:Arm-v0") imports that module. So it must come from the
user's own hand, never from a file.
"""

import contextlib
import difflib
import math
import os
import sys
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from upright.errors import UprightError
from upright.spec import Channel, Choice, Continuous, Spec, Vector

Env = gym.Env[Any, Any]
Observation = NDArray[np.float32]
# A bound beyond this stands for "none", as the largest float32 does in many environments.
_BOUND = 1e6


class SpacesError(UprightError):
    """The task exists, but its observations or actions are not for the agent."""

    def __init__(self, task: str, seen: str, fix: str):
        super().__init__(f"task {task!r}: {seen}; {fix}")
        self.seen = seen
        self.fix = fix


class Flat(gym.Wrapper[Observation, Any, Any, Any]):
    """An observation is a vector of float32, an action an index from 0 on."""

    def __init__(self, env: Env, actions: Sequence[Any]):
        """`actions`: what the environment is given for each index."""
        super().__init__(env)
        self._actions = actions
        with np.errstate(over="ignore"):  # a bound beyond float32 is none
            low, high = (np.ravel(limit).astype(np.float32) for limit in _box(env))
        self.observation_space = gym.spaces.Box(low, high)
        self.action_space = gym.spaces.Discrete(len(actions))
        self.observation_size = len(low)
        self.action_count = len(actions)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._flat(observation), info

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(self._actions[action])
        # Many environments return NumPy's own booleans.
        return self._flat(observation), reward, bool(terminated), bool(truncated), info

    def _flat(self, observation: Any) -> Observation:
        flat = np.asarray(observation, np.float32).ravel()
        if len(flat) != self.observation_size:
            raise ValueError(
                f"an observation of {len(flat)} numbers; its space has {self.observation_size}"
            )
        return flat


def make_env(task: str, action: Choice | Continuous | None = None, **options: Any) -> Flat:
    """The environment of an id that the user typed.

    `action`: a Choice offers its values where the environment takes one continuous number.
    `options`: for gymnasium.make. Raises UprightError if it cannot be made or its spaces are not
    for an agent with discrete actions.
    """
    with _importable_from_here():
        try:
            env: Env = gym.make(task, disable_env_checker=True, **options)
        except gym.error.DependencyNotInstalled as error:
            # Gymnasium names the extra to install.
            raise UprightError(f"task {task!r}: {one_line(error)}") from None
        except gym.error.Error as error:
            near = _near(task)
            if isinstance(error, gym.error.NameNotFound) and near:
                raise UprightError(f"unknown task {task!r}; did you mean {near}?") from None
            raise UprightError(f"task {task!r}: {one_line(error)}") from None
        except ModuleNotFoundError as error:
            name = error.name or getattr(error.__cause__, "name", None)  # Gymnasium wraps it
            raise UprightError(
                f"task {task!r}: no module {name!r}; is it installed, or in this folder?"
            ) from None
        except (Exception, SystemExit) as error:  # the environment's own code
            raise UprightError(f"task {task!r} cannot be made: {one_line(error)}") from error
    try:
        return Flat(env, _actions(env, task, action))
    except UprightError:
        env.close()
        raise


def read_spec(env: Flat, task: str) -> Spec:
    """What an environment tells of itself.

    A channel between finite bounds is scaled by them, another one by what is measured. An
    environment that knows better, with names and units, has a Spec as its `upright_spec`.
    """
    own = getattr(env.unwrapped, "upright_spec", None)
    if isinstance(own, Spec):
        _check_own(env, own, task)
        return replace(own, task=task)
    lows, highs = _box(env)
    names = _names(env)
    return Spec(
        task=task,
        observation=Vector(tuple(map(_channel, names, lows.tolist(), highs.tolist()))),
        action=Choice("action", "1", tuple(map(float, range(env.action_count)))),
        dt=_sampling_time(env),
        episode_steps=env.spec.max_episode_steps if env.spec else None,
        solved_return=env.spec.reward_threshold if env.spec else None,
    )


def _check_own(env: Flat, own: Spec, task: str) -> None:
    sizes = own.observation_size, own.action_size
    if sizes != (env.observation_size, env.action_count):
        raise UprightError(
            f"task {task!r}: its upright_spec has {sizes[0]} observations and {sizes[1]} actions,"
            f" its spaces have {env.observation_size} and {env.action_count}"
        )


def _box(env: Env) -> tuple[NDArray[Any], NDArray[Any]]:
    space = env.observation_space
    assert isinstance(space, gym.spaces.Box)
    return space.low, space.high


def _actions(env: Env, task: str, chosen: Choice | Continuous | None) -> Sequence[Any]:
    """What to give to the environment for each index; UprightError if its spaces do not fit."""
    space = env.observation_space
    if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        raise SpacesError(
            task,
            f"its observation is a {type(space).__name__}",
            "flatten it with gymnasium.wrappers.FlattenObservation where the environment is"
            " registered",
        )
    if not isinstance(space, gym.spaces.Box):
        raise SpacesError(
            task,
            f"its observation is {space}, no Box of numbers",
            "turn it into one with gymnasium.wrappers.TransformObservation where the environment"
            " is registered",
        )
    action = env.action_space
    if isinstance(action, gym.spaces.Discrete):
        return range(int(action.start), int(action.start + action.n))
    if isinstance(action, gym.spaces.Box):
        if isinstance(chosen, Choice) and action.shape == (1,):
            return list(np.array(chosen.values, action.dtype)[:, None])
        raise SpacesError(
            task,
            f"its action is continuous, Box of shape {action.shape}, and DQN chooses among some",
            "agents for Box are planned, until then offer some values with"
            " gymnasium.wrappers.TransformAction",
        )
    raise SpacesError(task, f"its action is {action}", "DQN needs Discrete")


def _channel(name: str, low: float, high: float) -> Channel:
    if not -_BOUND < low < high < _BOUND:
        return Channel(name, "1", scale=None)
    return Channel(name, "1", scale=(high - low) / 2, offset=(high + low) / 2)


def _names(env: Flat) -> list[str]:
    """Of the channels: the entries of the array that the environment itself returns."""
    return [f"observation{list(index)}" for index in np.ndindex(*_box(env.env)[0].shape)]


def _sampling_time(env: Env) -> float | None:
    """From the plant's own attribute, as Gymnasium's environments call it, else from its video."""
    inner: Any = env.unwrapped
    candidates = [getattr(inner, "dt", None), getattr(inner, "tau", None)]
    rate = env.metadata.get("render_fps")
    if isinstance(rate, int | float) and rate > 0:
        candidates.append(1 / rate)
    numbers = (float(c) for c in candidates if isinstance(c, int | float))
    return next((number for number in numbers if 0 < number < math.inf), None)


@contextlib.contextmanager
def _importable_from_here() -> Generator[None]:
    """The user's own module may lie in the present folder; installed ones go first."""
    here = os.getcwd()
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.append(here)
    try:
        yield
    finally:
        if added:
            sys.path.remove(here)


def one_line(error: BaseException) -> str:
    """The message of somebody else's error."""
    return " ".join(str(error).split()) or type(error).__name__


def _near(task: str) -> str:
    """Registered ids that look alike, the newest first."""
    lower = {known.lower(): known for known in reversed(gym.registry)}
    exact = [task.lower()] if task.lower() in lower else []
    near = exact or difflib.get_close_matches(task.lower(), lower, n=3, cutoff=0.8)
    return ", ".join(lower[match] for match in near)
