"""Tasks by their id."""

import difflib
from importlib import import_module
from typing import TYPE_CHECKING

from upright.errors import UprightError

if TYPE_CHECKING:
    from upright.tasks.task import Task

# id: where its task is. Imported when it is used: JAX starts with it, and a wrong id is answered
# at once.
_HOMES = {
    "Acrobot-v1": ("upright.tasks.acrobot", "AcrobotTask"),
    "CartPole-v1": ("upright.tasks.cartpole", "CartPoleTask"),
    "MountainCar-v0": ("upright.tasks.mountain_car", "MountainCarTask"),
    "Pendulum-v1": ("upright.tasks.pendulum", "PendulumTask"),
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
    module, task = _HOMES[name]
    return getattr(import_module(module), task)()
