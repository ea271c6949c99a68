"""From plain JSON values to dataclasses, every type checked."""

from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints


def from_plain(kind: Any, value: Any) -> Any:
    """The inverse of `dataclasses.asdict`, after JSON.

    Knows dataclasses, unions, tuples and dicts of one type, literals and plain types. Raises
    TypeError if a value is of another type, a member is missing or one is not known.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        if unknown := value.keys() - hints.keys():
            raise TypeError(f"unknown {', '.join(map(str, unknown))}")
        members = {name: from_plain(hints[name], member) for name, member in value.items()}
        return kind(**members)  # pyright: ignore[reportCallIssue]
    if origin is UnionType:
        if value is None and NoneType in arguments:
            return None
        (only,) = set(arguments) - {NoneType}
        return from_plain(only, value)
    if origin is tuple and isinstance(value, list):
        return tuple(from_plain(arguments[0], member) for member in value)
    if origin is dict and isinstance(value, dict):
        return {name: from_plain(arguments[1], member) for name, member in value.items()}
    if origin is Literal and value in arguments:
        return value
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    raise TypeError(f"{value!r} is not {getattr(kind, '__name__', kind)}")
