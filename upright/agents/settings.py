"""Settings of agents: their bounds, said where they are declared and checked in one place."""

import math
from dataclasses import MISSING, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from upright.errors import UprightError
from upright.parameters import Bounds, Limit


def setting(
    default: Any,
    *,
    above: Limit = None,
    at_least: Limit = None,
    below: Limit = None,
    at_most: Limit = None,
) -> Any:
    """A field whose numbers, one or a tuple of them, lie within these bounds."""
    return field(default=default, metadata={"bounds": Bounds(above, at_least, below, at_most)})


def check_settings(settings: Any) -> None:
    """Raises UprightError unless every field is of its type and within its bounds."""
    kinds = get_type_hints(type(settings))
    for declared in fields(settings):
        name, kind, value = declared.name, kinds[declared.name], getattr(settings, declared.name)
        expected = _expected(kind)
        if expected and not _is(kind, value):
            raise UprightError(f"{name} is {value!r}; it must be {expected}")
        bounds: Bounds | None = declared.metadata.get("bounds")
        numbers = value if isinstance(value, tuple) else (value,)
        if bounds and not all(math.isfinite(n) and bounds.allow(n) for n in numbers):
            each = ", each number" if isinstance(value, tuple) else ""
            raise UprightError(f"{name} is {value!r}; it must be{each} {bounds}")


def _expected(kind: Any) -> str:
    """A type in words; empty for one that is not checked."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    words = {int: "a whole number", float: "a number", bool: "True or False"}
    if kind in words:
        return words[kind]
    return "a tuple of whole numbers" if kind == tuple[int, ...] else ""


def _is(kind: Any, value: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind == tuple[int, ...]:
        return isinstance(value, tuple) and all(_is(int, number) for number in value)  # pyright: ignore[reportUnknownVariableType]
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


def from_dict(kind: type[Any], values: dict[str, Any]) -> Any:
    """Settings of this kind, after JSON; what is missing has its default.

    So a file that was written before there was some setting can be read. Raises UprightError for
    a setting that there is not.
    """
    known = {declared.name: declared for declared in fields(kind)}
    unknown = [name for name in values if name not in known]
    if unknown:
        raise UprightError(f"{kind.__name__} has no setting {unknown[0]!r}")
    plain = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    missing = [n for n, d in known.items() if n not in plain and d.default is MISSING]
    if missing:
        raise UprightError(f"{kind.__name__} needs its setting {missing[0]!r}")
    return kind(**plain)
