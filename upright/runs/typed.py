"""From plain JSON values to dataclasses, every type checked."""

from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from upright import plain
from upright.errors import shown


def from_plain(kind: Any, value: Any) -> Any:
    """The inverse of `dataclasses.asdict`, after JSON.

    Knows dataclasses, unions, tuples and dicts of one type, literals and plain types. Raises
    TypeError if a value is of another type, a member is missing or one is not known, ValueError if
    a number is not finite.
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
        several = [one for one in arguments if get_origin(one) is tuple]
        others = [one for one in arguments if one not in (*several, NoneType)]
        (only,) = several if several and isinstance(value, list) else others or several
        return from_plain(only, value)
    if origin is tuple and isinstance(value, list):
        kinds = (arguments[0],) * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise TypeError(f"{len(value)} values are not {len(kinds)}")
        return tuple(map(from_plain, kinds, value))
    if origin is dict and isinstance(value, dict):
        return {name: from_plain(arguments[1], member) for name, member in value.items()}
    if origin is Literal and value in arguments:
        return value
    if kind is float and type(value) in (int, float):
        return plain.number(value)
    if type(value) is kind:
        return value
    raise TypeError(f"{shown(value)} is not {getattr(kind, '__name__', kind)}")
