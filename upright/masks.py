"""Action masks: which actions of a Choice are allowed at the moment."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upright.errors import UprightError, shown
from upright.spec import Spec


def checked(mask: Any, shape: Sequence[int], what: str = "action_mask") -> NDArray[np.bool_]:
    """A copy as booleans: an entry for each action, in the order of the Choice's values.

    Raises UprightError, which calls the mask `what`, if it has another shape, other entries than 0
    and 1, or allows nothing.
    """
    try:
        given = np.asarray(mask)
    except ValueError:  # lists of different lengths
        given = np.array(None)
    if given.dtype.kind not in "biuf":
        raise UprightError(f"{what} is {shown(mask)}; it must be an array of 0 and 1")
    if given.shape != tuple(shape):
        raise UprightError(
            f"{what} has shape {given.shape}; it must be {tuple(shape)}, an entry for each action"
        )
    allowed = given == 1
    if not (allowed | (given == 0)).all():
        raise UprightError(f"{what} is {shown(mask)}; its entries must be 0 or 1")
    if not allowed.any(axis=-1).all():
        raise UprightError(f"{what} allows no action: all of its entries are 0")
    return allowed


def expected(spec: Spec, mask: Any, what: str) -> NDArray[np.bool_] | None:
    """As `checked`, for one environment [1 A]; None where the task has no masks.

    Raises UprightError, too, if a mask is missing, or given where the spec says that there is none.
    """
    if spec.masked != (mask is not None):
        fix = "give it" if spec.masked else "leave it out, or make a spec with masked=True"
        raise UprightError(f"the spec says masked={spec.masked}: {what}; {fix}")
    return None if mask is None else checked(mask, (spec.action_size,), what)[None]
