"""Tasks by their id."""

import difflib
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from upright.errors import UprightError

if TYPE_CHECKING:
    from upright.tasks.task import Task


class _Home(NamedTuple):
    """Where a task is, and what is known of it without JAX, which starts with it."""

    module: str
    name: str
    episode_steps: int
    solved_return: float | None
    original: str | None  # id of the task of Gymnasium's that it is


_HOMES = {
    "Acrobot-v1": _Home("acrobot", "AcrobotTask", 500, -100.0, "Acrobot-v1"),
    "CartPole-v1": _Home("cartpole", "CartPoleTask", 500, 475.0, "CartPole-v1"),
    "CartPoleContinuous-v0": _Home("cartpole", "CartPoleContinuousTask", 500, 475.0, None),
    "CartPoleSwingUp-v0": _Home("cartpole_swing_up", "CartPoleSwingUpTask", 500, None, None),
    "MountainCar-v0": _Home("mountain_car", "MountainCarTask", 200, -110.0, "MountainCar-v0"),
    "MountainCarContinuous-v0": _Home(
        "mountain_car", "MountainCarContinuousTask", 999, 90.0, "MountainCarContinuous-v0"
    ),
    "Pendulum-v1": _Home("pendulum", "PendulumTask", 200, None, "Pendulum-v1"),
    "PendulumDiscrete-v1": _Home("pendulum", "PendulumDiscreteTask", 200, None, "Pendulum-v1"),
}
NAMES = tuple(_HOMES)


def make_task(name: str) -> "Task":
    """The native task of this id, with its standard parameters.

    Raises UprightError for an unknown id and names the nearest known ones.
    """
    if name not in _HOMES:
        lower = {known.lower(): known for known in NAMES}
        near = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.6)
        hint = f"did you mean {', '.join(lower[match] for match in near)}?" if near else ""
        raise UprightError(f"unknown task {name!r}; {hint or 'known: ' + ', '.join(NAMES)}")
    home = _HOMES[name]
    return getattr(import_module(f"upright.tasks.{home.module}"), home.name)()


def gymnasium_id(name: str) -> str:
    """Id of the Gymnasium environment that judges policies for a task.

    Of a native one Gymnasium's original, or, if there is none, our own; any other id as it is.
    """
    if name not in _HOMES:
        return name
    return _HOMES[name].original or f"upright/{name}"


def limits(name: str) -> tuple[int, float | None]:
    """Time limit [steps] of a native task, and the mean return from which it counts as solved."""
    home = _HOMES[name]
    return home.episode_steps, home.solved_return
