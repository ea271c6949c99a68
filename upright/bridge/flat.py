"""Gymnasium's environments, as agents and policies see them: vectors and indices.

Nothing is imported here: the module before an id ("my_robot:Arm-v0") is imported where the user
types it (`tasks.catalogue.load`).
"""

import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from upright.bridge import factory, masks, values, wrappers
from upright.bridge.factory import Factory
from upright.bridge.values import EnvironmentFailedError
from upright.errors import UprightError, UprightWarning, foreign, one_line
from upright.finding import UnfitError
from upright.spec import Channel, Choice, Continuous
from upright.tasks import catalogue

Env = gym.Env[Any, Any]
Observation = NDArray[np.float32]


class SpacesError(UnfitError):
    """The task's observations or actions are not for agents."""

    check = "spaces"


class Flat(gym.Wrapper[Observation, Any, Any, Any]):
    """The one door to an environment: what goes through it is checked, in every loop.

    An observation is a vector of finite float32, always a new one; a reward a finite float; an
    action an index from 0 on, or a vector [U]. Whatever else the environment does is an
    EnvironmentFailedError of one line, which says in which call.

    `action_mask`: which actions are allowed now, bools [action_size]; after a step that terminated,
    all. None where the task has no masks, see `masked`.
    """

    def __init__(self, env: Env, action: Choice | Continuous, given: Sequence[Any] | None):
        """`given`: what the environment is given for each index, if the action is a Choice."""
        super().__init__(env)
        self.action = action
        self._given = given
        self._open = True
        self.action_mask: NDArray[np.bool_] | None = None
        # The first reset had a mask, so each reset and step has. Who knows the task sets it before.
        self.masked: bool | None = None
        self._is_choice = isinstance(env.action_space, gym.spaces.Discrete)
        self._ask_mask = masks.method(wrappers.chain(env)) if self._is_choice else None
        self._around_mask = wrappers.around_mask(env)
        with np.errstate(over="ignore"):  # a bound beyond float32 is none
            low, high = (np.ravel(limit).astype(np.float32) for limit in box(env))
        self.observation_space = gym.spaces.Box(low, high)
        self.action_space = action_space(action)
        self.observation_size = len(low)
        self.action_size = action.count

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        try:
            answer = self.env.reset(seed=seed, options=options)
        except BaseException as error:  # the environment's own code
            raise values.raised("reset", error) from error
        observation, info = values.reset_answer(answer)
        if self.masked is None:
            self.masked = self._told_mask("reset", info) is not None
        if self.masked and self._around_mask:
            what = f"action_mask is of the actions inside, and {self._around_mask} changes them"
            fix = "put a wrapper around it that gives the mask of its actions in the info"
            raise EnvironmentFailedError("reset", f"{what}; {fix}")
        self._set_mask("reset", info)
        return values.observation("reset", observation, self.observation_size), info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        try:
            answer = self.env.step(self._theirs(action))
        except BaseException as error:
            raise values.raised("step", error) from error
        observation, reward, terminated, truncated, info = values.step_answer(answer)
        over = values.flag("terminated", terminated)
        self._set_mask("step", info, over)
        return (
            values.observation("step", observation, self.observation_size),
            values.reward(reward),
            over,
            values.flag("truncated", truncated),
            info,
        )

    def permitted(self, action: Any) -> Any:
        """An action that is allowed now, in place of a random one."""
        if self.action_mask is None:
            return action
        allowed = np.flatnonzero(self.action_mask)
        return allowed[action % len(allowed)]

    def render(self) -> Any:
        """In a window None, else a frame [height, width, 3] of uint8."""
        try:
            frame = self.env.render()
        except (UprightError, gym.error.DependencyNotInstalled):
            raise
        except BaseException as error:
            raise values.raised("render", error) from error
        return None if self.render_mode == "human" else values.picture(frame)

    def close(self) -> None:
        """Once; an environment that cannot is said, and is no reason to lose what was done."""
        if not self._open:
            return
        self._open = False
        try:
            self.env.close()
        except BaseException as error:
            text = str(values.raised("close", error))
            warnings.warn(text, UprightWarning, stacklevel=2)

    def _told_mask(self, call: str, info: Any) -> Any:
        if not self._is_choice:
            return None
        try:
            return masks.told(info, self._ask_mask)
        except BaseException as error:
            raise values.raised(call, error) from error

    def _set_mask(self, call: str, info: Any, over: bool = False) -> None:
        """`over`: nothing can be chosen any more, so it does not matter what the mask says."""
        if over:
            self.action_mask = np.ones(self.action_size, np.bool_) if self.masked else None
            return
        given = self._told_mask(call, info)
        if self.masked or given is not None:
            self.action_mask = values.mask(call, given, self.action_size, bool(self.masked))

    def _theirs(self, action: Any) -> Any:
        if self._given is not None:
            return self._given[action]
        space = self.env.action_space
        return self.action.physical(action).astype(space.dtype).reshape(space.shape)


def make_env(
    task: str | Factory, action: Choice | Continuous | None = None, **options: Any
) -> Flat:
    """The environment of an id, whose module has been imported, or what a function makes.

    `action`: of the policy or native task that it is for. A Choice then offers its values to an
    environment whose action is one continuous number.
    `options`: for gymnasium.make. Raises UprightError if it cannot be made, SpacesError if its
    observations or actions are no numbers, StatefulWrapperError if a wrapper normalises by running
    statistics.
    """
    if not isinstance(task, str):
        return _flatten(factory.make(task, options), factory.say(task), action)
    name = catalogue.bare(task)
    with catalogue.importable_from_here(name):
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
        except BaseException as error:  # the environment's own code
            raise UprightError(f"task {task!r} cannot be made: {foreign(error)}") from error
    return _flatten(env, task, action)


def _flatten(env: Env, task: str, action: Choice | Continuous | None) -> Flat:
    """Closes it, and raises SpacesError, where it has other things than numbers."""
    try:
        _check_spaces(env, task)
        wrappers.refuse_stateful(env, task)
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


def _check_spaces(env: Env, task: str) -> None:
    """Raises SpacesError unless the observation is a Box of numbers."""
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        if not isinstance(space, gym.Space):
            kind = f"{type(space).__module__}.{type(space).__name__}"
            seen = f"its {name} is {'missing' if space is None else f'a {kind}'}"
            raise SpacesError(task, seen, "set it to one of gymnasium.spaces")
    space = env.observation_space
    if isinstance(space, gym.spaces.Box) and space.dtype.kind in "fiub" and np.prod(space.shape):
        return
    seen = f"its observation is {_short(space)}, no Box of numbers"
    where = "where the environment is registered"
    if not isinstance(space, gym.spaces.Box) and space.is_np_flattenable:
        one_hot = isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete)
        how = ", which makes it one-hot" if one_hot else ""
        fix = f"flatten it with gymnasium.wrappers.FlattenObservation{how}, {where}"
        raise SpacesError(task, seen, fix)
    fix = f"turn it into one with gymnasium.wrappers.TransformObservation, {where}"
    raise SpacesError(task, seen, fix)


def _short(space: gym.Space[Any]) -> str:
    """A simple space as it is written, a composed one by its name."""
    composed = isinstance(space, gym.spaces.Dict | gym.spaces.Tuple | gym.spaces.Box)
    return f"a {type(space).__name__}" if composed else str(space)


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
