"""JSON from a stranger's file: parsed strictly, every value checked for its type."""

import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from upright.errors import shown
from upright.parameters import is_finite

T = TypeVar("T")
_LARGEST = 2**63  # whole numbers are below it: a 64-bit integer holds them
_DEEPEST = 32  # levels of lists and objects


def parse(text: str | bytes) -> Any:
    """The value that the text means.

    Raises ValueError for what is not JSON, and for what JSON leaves open: NaN and Infinity, numbers
    that 64 bits do not hold, a name twice in one object, half of a surrogate pair, deep nesting.
    """
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=_number,
            parse_constant=_constant,
        )
        _check(value, _DEEPEST)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def typed(value: object, kind: type[T]) -> T:
    """The value. Raises TypeError unless it is of just this type: a bool is no number here."""
    if type(value) is not kind:
        raise TypeError(f"it must be {kind.__name__}")
    return value


def count(value: object) -> int:
    """A whole number from 0 on. Raises TypeError or ValueError for anything else."""
    number = typed(value, int)
    if number < 0:
        raise ValueError(f"{number} is below 0")
    return number


def number(value: object) -> float:
    """A finite number. Raises TypeError or ValueError for anything else."""
    found = float(value) if type(value) is int else typed(value, float)
    if not math.isfinite(found):
        raise ValueError(f"{found} is not finite")
    return found


def single(value: object) -> float:
    """A number that is finite in single precision. Raises TypeError or ValueError."""
    found = number(value)
    if not is_finite(found):
        raise ValueError(f"{found} is not finite in single precision")
    return found


def only(fields: Mapping[str, Any], names: set[str]) -> None:
    """Raises ValueError unless an object has just these members."""
    if set(fields) != names:
        raise ValueError(f"members are {', '.join(sorted(fields))}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return members


def _whole(text: str) -> int:
    # Python would take long over a million digits, or refuse them in words of its own.
    if len(text) > 20 or not -_LARGEST <= (value := int(text)) < _LARGEST:
        raise ValueError("a whole number that 64 bits do not hold")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number that 64 bits do not hold")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _check(value: Any, levels: int) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"half of a surrogate pair: {shown(value)}") from None
    elif isinstance(value, dict | list):
        if not levels:
            raise ValueError("nested too deeply")
        members = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        for member in members:
            _check(member, levels - 1)
