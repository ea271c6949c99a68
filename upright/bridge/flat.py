"""Gymnasium's environments, as agents and policies see them: vectors and indices.

An id with a module before it ("my_robot:Arm-v0") imports that module. So it must come from the
user's own hand, never from a file.
"""

from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from upright.errors import UprightError, one_line
from upright.spec import Channel, Choice, Continuous
from upright.tasks import catalogue

Env = gym.Env[Any, Any]
Observation = NDArray[np.float32]


class SpacesError(UprightError):
    """The task exists, but its observations or actions are not for agents."""

    def __init__(self, task: str, seen: str, fix: str):
        super().__init__(f"task {task!r}: {seen}; {fix}")
        self.seen = seen
        self.fix = fix


class Flat(gym.Wrapper[Observation, Any, Any, Any]):
    """An observation is a vector of float32; an action an index from 0 on, or a vector [U]."""

    def __init__(self, env: Env, action: Choice | Continuous, given: Sequence[Any] | None):
        """`given`: what the environment is given for each index, if the action is a Choice."""
        super().__init__(env)
        self.action = action
        self._given = given
        with np.errstate(over="ignore"):  # a bound beyond float32 is none
            low, high = (np.ravel(limit).astype(np.float32) for limit in box(env))
        self.observation_space = gym.spaces.Box(low, high)
        self.action_space = action_space(action)
        self.observation_size = len(low)
        self.action_size = action.count

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._flat(observation), info

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(self._theirs(action))
        # Many environments return NumPy's own booleans.
        return self._flat(observation), reward, bool(terminated), bool(truncated), info

    def _theirs(self, action: Any) -> Any:
        if self._given is not None:
            return self._given[action]
        space = self.env.action_space
        return self.action.physical(action).astype(space.dtype).reshape(space.shape)

    def _flat(self, observation: Any) -> Observation:
        flat = np.asarray(observation, np.float32).ravel()
        if len(flat) != self.observation_size:
            raise ValueError(
                f"an observation of {len(flat)} numbers; its space has {self.observation_size}"
            )
        return flat


def make_env(task: str, action: Choice | Continuous | None = None, **options: Any) -> Flat:
    """The environment of an id that the user typed.

    `action`: of the policy or native task that it is for. A Choice then offers its values to an
    environment whose action is one continuous number.
    `options`: for gymnasium.make. Raises UprightError if it cannot be made, SpacesError if its
    observations or actions are no numbers.
    """
    name = catalogue.load(task)
    with catalogue.importable_from_here():
        try:
            env: Env = gym.make(name, disable_env_checker=True, **options)
        except UprightError:
            raise
        except gym.error.DependencyNotInstalled as error:
            # Gymnasium names the extra to install.
            raise UprightError(f"task {task!r}: {one_line(error)}") from None
        except (gym.error.NameNotFound, gym.error.NamespaceNotFound):
            known = [*catalogue.names(), *reversed(gym.registry)]  # the newest first
            raise catalogue.unknown_task(task, known) from None
        except gym.error.Error as error:
            raise UprightError(f"task {task!r}: {one_line(error)}") from None
        except ModuleNotFoundError as error:
            name = error.name or getattr(error.__cause__, "name", None)  # Gymnasium wraps it
            raise UprightError(
                f"task {task!r}: no module {name!r}; is it installed, or in this folder?"
            ) from None
        except (Exception, SystemExit) as error:  # the environment's own code
            raise UprightError(f"task {task!r} cannot be made: {one_line(error)}") from error
    try:
        _check_observations(env, task)
        return Flat(env, *_actions(env, task, action))
    except UprightError:
        env.close()
        raise


def action_space(action: Choice | Continuous) -> gym.spaces.Discrete | gym.spaces.Box:
    """Indices of a Choice, vectors [U] of float32 of a Continuous."""
    if isinstance(action, Choice):
        return gym.spaces.Discrete(action.count)
    low = np.array([channel.minimum for channel in action.channels], np.float32)
    high = np.array([channel.maximum for channel in action.channels], np.float32)
    return gym.spaces.Box(low, high)


def box(env: Env) -> tuple[NDArray[Any], NDArray[Any]]:
    """Bounds of the observations."""
    space = env.observation_space
    assert isinstance(space, gym.spaces.Box)
    return space.low, space.high


def bounded(name: str, low: float, high: float) -> Channel:
    """A channel that nothing is known of but its bounds; it is scaled by them."""
    scale, offset = (high - low) / 2, (high + low) / 2
    return Channel(name, "1", scale, offset, minimum=low, maximum=high)


def entries(name: str, shape: Sequence[int]) -> list[str]:
    """Names of the entries of an array, as one would write them: "action[0, 1]"."""
    return [f"{name}{list(index)}" for index in np.ndindex(*shape)]


def _check_observations(env: Env, task: str) -> None:
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


def _actions(
    env: Env, task: str, wanted: Choice | Continuous | None
) -> tuple[Choice | Continuous, Sequence[Any] | None]:
    """Its action, and what to give to the environment for each index if that is a Choice."""
    space = env.action_space
    if isinstance(space, gym.spaces.Discrete):
        count = int(space.n)
        choice = Choice("action", "1", tuple(map(float, range(count))))
        return choice, range(int(space.start), int(space.start) + count)
    if not isinstance(space, gym.spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise SpacesError(
            task, f"its action is {space}", "agents need Discrete, or a Box of real numbers"
        )
    if isinstance(wanted, Choice) and space.shape == (1,):
        return wanted, list(np.array(wanted.values, space.dtype)[:, None])
    if not space.is_bounded() or not (space.low < space.high).all():
        raise SpacesError(
            task,
            f"its action {space} is not between two finite bounds",
            "give it some with gymnasium.wrappers.TransformAction where the environment is"
            " registered",
        )
    names = entries("action", space.shape)
    limits = zip(space.low.ravel().tolist(), space.high.ravel().tolist(), strict=True)
    return Continuous(tuple(bounded(n, *both) for n, both in zip(names, limits, strict=True))), None
