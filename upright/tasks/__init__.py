"""Tasks by their id."""

import difflib
from typing import TYPE_CHECKING

from upright.errors import UprightError

if TYPE_CHECKING:
    from upright.tasks.task import Task

NAMES = ("CartPole-v1",)


def check_task(name: str) -> None:
    """Raises UprightError for an unknown id and names the nearest known ones."""
    if name not in NAMES:
        lower = {known.lower(): known for known in NAMES}
        near = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(lower[match] for match in near)}?" if near else ""
        raise UprightError(f"unknown task {name!r}; {hint or 'known: ' + ', '.join(NAMES)}")


def make_task(name: str) -> "Task":
    """The native task of this id, with its standard parameters."""
    check_task(name)
    # JAX starts here and not with the package: a wrong name is answered at once.
    from upright.tasks.cartpole import CartPoleTask

    return CartPoleTask()
