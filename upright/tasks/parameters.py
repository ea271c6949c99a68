"""Parameters of a task by name: those of its plant, and its own."""

import difflib
from collections.abc import Mapping
from copy import copy
from dataclasses import is_dataclass, replace
from typing import Any, NamedTuple

from upright import parameters
from upright.errors import UprightError
from upright.parameters import Bounds


class Parameter(NamedTuple):
    """One of a task."""

    value: float | tuple[float, ...]  # at present
    bounds: Bounds
    owner: Any  # the plant, or the task itself


def of(task: Any) -> dict[str, Parameter]:
    """All parameters of a task, by name: first those of its plant, if it has one."""
    plant = getattr(task, "plant", None)
    owners = [plant, task] if is_dataclass(plant) else [task]
    return {
        name: Parameter(getattr(owner, name), bounds, owner)
        for owner in owners
        for name, bounds in parameters.bounds(owner).items()
    }


def find(task: Any, name: str) -> Parameter:
    """Raises UprightError, with the nearest names, for one that the task does not have."""
    known = of(task)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(known)}"
    if name == "episode_steps":
        hint = "the time limit is Gymnasium's max_episode_steps"
    raise UprightError(f"{task.spec.task} has no parameter {name!r}; {hint}")


def change(task: Any, values: Mapping[str, object]) -> Any:
    """The task with some parameters changed, each in its own unit.

    Raises UprightError for an unknown parameter, or a value that it cannot have.
    """
    checked: dict[str, Any] = {
        name: parameters.check(find(task, name).owner, name, value)
        for name, value in values.items()
    }

    own = {name: value for name, value in checked.items() if find(task, name).owner is task}
    rest = {name: value for name, value in checked.items() if name not in own}
    plant = {"plant": replace(task.plant, **rest)} if rest else {}
    return replace(task, **plant, **own)


def put(task: Any, values: Mapping[str, Any]) -> Any:
    """The task with values that JAX is computing, within bounds that were checked before.

    Past the constructors, since what they check and annotate is numbers.
    """
    known = of(task)
    changed = copy(task)
    if any(known[name].owner is not task for name in values):
        object.__setattr__(changed, "plant", copy(task.plant))
    for name, value in values.items():
        owner = changed if known[name].owner is task else changed.plant
        object.__setattr__(owner, name, value)
    return changed
