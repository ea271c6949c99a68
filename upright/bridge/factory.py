"""Functions that make environments, where one would write an id: `lambda: gym.make(...)`."""

import functools
import inspect
from collections.abc import Callable
from contextlib import closing
from typing import Any

import gymnasium as gym

from upright.calling import is_from_command_line
from upright.errors import UprightError, foreign, shown

Env = gym.Env[Any, Any]
Factory = Callable[..., Env]

_CALL = "()"  # at the end of the name of such a task: no id has it
_WANTED = "an id such as 'CartPole-v1', or a function that makes the environment"


def named(task: str | Factory) -> tuple[str, Factory | None]:
    """The id that is recorded of a task, and the function where it is one.

    Of a function its own name, or the id of what it makes: "make_arm()", "CartPole-v1()". Raises
    UprightError for anything else than an id or a function.
    """
    given: Any = task  # whatever it is
    if isinstance(task, str):
        return task, None
    if isinstance(given, gym.Env):
        raise UprightError(
            f"task is an environment, {shown(task)}; give what makes it, since several are needed:"
            " lambda: gym.make(...)"
        )
    if not callable(given):
        raise UprightError(f"task is {shown(task)}; it must be {_WANTED}")
    inner = task.func if isinstance(task, functools.partial) else task
    name = str(getattr(inner, "__name__", type(inner).__name__))
    if name == "<lambda>":
        with closing(make(task, {})) as env:
            name = env.spec.id if env.spec else type(env.unwrapped).__name__
    return f"{name}{_CALL}", task


def is_made(name: str) -> bool:
    """Whether this name is recorded of a task that a function made."""
    return name.endswith(_CALL)


def ask_again(name: str) -> str:
    """What is to be said where the function is missing."""
    made = f"task {name!r} was made by a function in Python"
    if is_from_command_line():
        return f"{made}; go on there, with the function as task="
    return f"{made}; give it again: task=..."


def make(factory: Factory, options: dict[str, Any]) -> Env:
    """What it makes with these options; raises UprightError if it cannot."""
    mode = options.get("render_mode")
    if mode and not _takes(factory, "render_mode"):
        del options["render_mode"]
    try:
        env: Any = factory(**options)
    except UprightError:
        raise
    except BaseException as error:  # the user's own code
        raise UprightError(f"task {say(factory)!r} cannot be made: {foreign(error)}") from error
    if not isinstance(env, gym.Env):
        raise UprightError(
            f"task {say(factory)!r} makes a {type(env).__name__}; it must make a gymnasium.Env"
            " (a native task has its id: upright.register)"
        )
    if mode and env.render_mode != mode:
        env.close()
        raise UprightError(
            f"task {say(factory)!r} makes no pictures (render mode {mode!r}); let it take"
            " render_mode and pass it on: lambda render_mode=None: gym.make(...,"
            " render_mode=render_mode)"
        )
    return env


def _takes(factory: Factory, name: str) -> bool:
    """Whether it has such an argument."""
    try:
        arguments = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False
    return name in arguments or any(a.kind is a.VAR_KEYWORD for a in arguments.values())


def say(factory: Factory) -> str:
    """Its name in a message."""
    return str(getattr(factory, "__name__", factory))
