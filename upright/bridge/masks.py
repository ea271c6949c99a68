"""Where environments say which actions are allowed.

There are two customs: an "action_mask" in the info of reset and step, and a method `action_masks()`
of the environment or of a wrapper. The info goes first.
"""

from collections.abc import Callable, Sequence
from typing import Any


def method(layers: Sequence[Any]) -> Callable[[], Any] | None:
    """The `action_masks` of the first that has one, of the layers of an environment."""
    found = (getattr(layer, "action_masks", None) for layer in layers)
    return next(filter(callable, found), None)


def told(info: Any, ask: Callable[[], Any] | None) -> Any:
    """The mask as the environment gives it, unchecked; None: it gives none."""
    if isinstance(info, dict) and "action_mask" in info:
        return info["action_mask"]
    return ask() if ask else None
