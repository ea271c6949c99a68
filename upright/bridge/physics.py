"""Changed physics by keyword: a task with other parameters than the standard ones."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, get_args

import numpy as np

from upright.errors import UprightError
from upright.tasks import make_task
from upright.tasks.task import Task

LARGEST = float(np.finfo(np.float32).max)  # what the tasks compute with

_POSITIVE = ("dt", "mass", "length", "limit")  # a parameter with such a name is above zero


def change_task(name: str, changes: Mapping[str, object]) -> Task:
    """The native task of this id with some parameters changed, each in its own unit.

    Raises UprightError for an unknown parameter, or a value that it cannot have.
    """
    task: Any = make_task(name)
    plant = {field.name: field.type for field in fields(task.plant)}
    own = {field.name: field.type for field in fields(task)}
    del own["plant"], own["episode_steps"]
    known = plant | own
    for parameter in changes:
        if parameter not in known:
            raise UprightError(
                f"{name} has no parameter {parameter!r}; known: {', '.join(known)}"
                " (the time limit is Gymnasium's max_episode_steps)"
            )
    values = {key: _checked(key, value, known[key]) for key, value in changes.items()}
    of_plant = {key: value for key, value in values.items() if key in plant}
    of_task = {key: value for key, value in values.items() if key in own}
    return replace(task, plant=replace(task.plant, **of_plant), **of_task)


def _checked(name: str, value: object, kind: Any) -> float | tuple[float, ...]:
    """The value of a parameter as a field of this kind has it: a number, or a tuple of numbers."""
    parts = get_args(kind)  # of tuple[float, float]: two; of float: none
    given: Any = value.tolist() if isinstance(value, np.ndarray) else value
    several = isinstance(given, list | tuple)
    numbers: list[Any] = [*given] if several else [given]
    count = max(1, len(numbers) if ... in parts else len(parts))
    if several != bool(parts) or len(numbers) != count or not all(map(_is_finite, numbers)):
        wanted = "numbers" if ... in parts else f"{count} numbers" if parts else "a number"
        raise UprightError(f"{name} is {value!r}; it must be {wanted}, finite in single precision")
    if any(word in name for word in _POSITIVE) and min(numbers) <= 0:
        raise UprightError(f"{name} is {value!r}; it must be above 0")
    return tuple(map(float, numbers)) if parts else float(numbers[0])


def _is_finite(number: object) -> bool:
    """True for a number that the tasks can compute with; a truth value is none."""
    numeric = isinstance(number, int | float | np.integer | np.floating)
    return numeric and not isinstance(number, bool) and bool(abs(number) <= LARGEST)
