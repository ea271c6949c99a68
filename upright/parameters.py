"""Fields of a frozen dataclass with bounds: parameters of plants and tasks, settings of agents."""

import math
from dataclasses import MISSING, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from upright.errors import UprightError, shown

LARGEST = float(np.finfo(np.float32).max)  # what tasks and agents compute with
SMALLEST = float(np.finfo(np.float32).tiny)  # above 0 and of full precision

_FEW = 64  # numbers whose sum is computed sooner than NumPy begins

T = TypeVar("T", float, tuple[float, ...], tuple[float, float])


Limit = int | float | None


@dataclass(frozen=True)
class Bounds:
    """Which values a field may have, each number of one that has several; and their unit."""

    above: Limit = None
    at_least: Limit = None
    below: Limit = None
    at_most: Limit = None
    ordered: bool = False  # (low, high), low not above high
    several: bool = False  # any number of numbers, at least one
    unit: str = ""  # for people; "rad, rad/s" where the numbers have several

    def allow(self, number: int | float) -> bool:
        """Whether a number lies within them."""
        return (
            (self.above is None or number > self.above)
            and (self.at_least is None or number >= self.at_least)
            and (self.below is None or number < self.below)
            and (self.at_most is None or number <= self.at_most)
        )

    def __str__(self) -> str:
        """In words, e.g. "above 0"; empty where every number will do."""
        words = {"above": "above", "at_least": "at least", "below": "below", "at_most": "at most"}
        limits = {word: getattr(self, name) for name, word in words.items()}
        return " and ".join(f"{word} {_brief(at)}" for word, at in limits.items() if at is not None)


def parameter(
    default: T,
    *,
    above: Limit = None,
    at_least: Limit = None,
    ordered: bool = False,
    several: bool = False,
    unit: str = "",
) -> T:
    """A field of a `Parameters`: a number, or a tuple of numbers, within bounds.

        half_length: float = parameter(0.5, above=0, unit="m")

    `ordered`: a tuple (low, high) whose low must not be above its high. `several`: a tuple of any
    length. Without bounds, any number that is finite in single precision. `unit` is shown by
    `upright tasks TASK`.
    """
    bounds = Bounds(above, at_least, ordered=ordered, several=several, unit=unit)
    return field(default=default, metadata={"bounds": bounds})


@dataclass(frozen=True)
class Parameters:
    """The base of a plant or task whose parameters are checked whenever one is made.

    A value that is being computed by JAX, as when parameters are drawn at random, is let through:
    whoever draws it has checked the range. Raises UprightError for a value out of its bounds.
    """

    def __post_init__(self) -> None:
        for name in bounds(self):
            value = getattr(self, name)
            if not _is_computed(value):
                object.__setattr__(self, name, check(self, name, value))


def bounds(owner: Any) -> dict[str, Bounds]:
    """The bounds of all parameters of a plant or task, by name, in order.

    Parameters are the fields that were made by `parameter`, and those of a plain dataclass that
    hold a float.
    """
    found: dict[str, Bounds] = {}
    for member in fields(owner):
        if "bounds" in member.metadata:
            found[member.name] = member.metadata["bounds"]
        elif isinstance(getattr(owner, member.name), float):
            found[member.name] = Bounds()
    return found


def check(owner: Any, name: str, value: object) -> float | tuple[float, ...]:
    """The value of a parameter as its field has it. Raises UprightError if it cannot have it."""
    limits, present = bounds(owner)[name], getattr(owner, name)
    given: Any = value.tolist() if isinstance(value, np.ndarray) else value
    is_tuple = isinstance(given, list | tuple)
    numbers: list[Any] = [*given] if is_tuple else [given]
    count = max(1, len(numbers)) if limits.several else _count(type(owner), name, present)
    wants_tuple = limits.several or count > 1
    if is_tuple != wants_tuple or len(numbers) != count or not all(map(is_finite, numbers)):
        wanted = "numbers" if limits.several else f"{count} numbers" if count > 1 else "a number"
        raise UprightError(
            f"{name} is {shown(value)}; it must be {wanted}, finite in single precision"
        )
    if not all(map(limits.allow, numbers)):
        raise UprightError(f"{name} is {shown(value)}; it must be {limits}")
    if limits.ordered and numbers[0] > numbers[1]:
        raise UprightError(
            f"{name} is {shown(value)}; its first number must not be above its second"
        )
    return tuple(map(float, numbers)) if wants_tuple else float(numbers[0])


def is_finite(number: object) -> bool:
    """True for a number that is finite in single precision; a truth value is none."""
    numeric = isinstance(number, int | float | np.integer | np.floating)
    return numeric and not isinstance(number, bool) and bool(abs(number) <= LARGEST)


def in_single(values: Any, what: str) -> NDArray[np.float32]:
    """A copy of numbers, as float32.

    Raises UprightError, which calls them `what`, if they are none, or not finite in single
    precision.
    """
    found = None
    try:
        given = np.asarray(values)
        if np.ma.is_masked(values):
            pass  # what is behind a mask is no number
        elif given.dtype == np.float32:
            found = np.array(given)
        elif given.dtype.kind not in "USOcmM":  # NumPy would make numbers of text, NaN of None
            with np.errstate(over="ignore"):
                found = np.array(given, np.float32)
    except Exception:  # lists of different lengths, or somebody else's array
        pass
    if found is None:
        dtype = getattr(values, "dtype", None)
        kind = "" if dtype is None else f" of dtype {dtype}"
        raise UprightError(f"{what} is {shown(values)}{kind}; it must be numbers")
    if not _all_finite(found):
        raise UprightError(f"{what} is not finite in single precision: {shown(values)}")
    return found


def _all_finite(numbers: NDArray[np.float32]) -> bool:
    if numbers.size < _FEW:
        return math.isfinite(sum(numbers.ravel().tolist()))
    return bool(np.isfinite(numbers).all())


def setting(
    default: Any = MISSING,
    *,
    above: Limit = None,
    at_least: Limit = None,
    below: Limit = None,
    at_most: Limit = None,
) -> Any:
    """A field of settings whose numbers, one or a tuple of them, lie within these bounds."""
    return field(default=default, metadata={"bounds": Bounds(above, at_least, below, at_most)})


def check_settings(settings: Any) -> None:
    """Raises UprightError unless every field is of its type and within its bounds.

    Real numbers must be finite in single precision, whatever their bounds; a whole one becomes a
    float.
    """
    kinds = get_type_hints(type(settings))
    for declared in fields(settings):
        name, kind, value = declared.name, kinds[declared.name], getattr(settings, declared.name)
        expected = _expected(kind)
        if expected and not _is(kind, value):
            raise UprightError(f"{name} is {shown(value)}; it must be {expected}")
        if kind is float and type(value) is int and is_finite(value):
            value = float(value)  # JAX would make an integer of 32 bits of it
            object.__setattr__(settings, name, value)
        bounds: Bounds | None = declared.metadata.get("bounds")
        numbers = value if isinstance(value, tuple) else () if value is None else (value,)
        if bounds is None or not numbers:
            continue
        each = "each number" if isinstance(value, tuple) else "it"
        if not all(map(bounds.allow, numbers)):
            raise UprightError(f"{name} is {shown(value)}; {each} must be {bounds}")
        if not all(map(is_finite, numbers)):
            raise UprightError(
                f"{name} is {shown(value)}; {each} must be finite in single precision"
            )


def _expected(kind: Any) -> str:
    """A type in words; empty for one that is not checked."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is UnionType and NoneType in get_args(kind):
        (only,) = set(get_args(kind)) - {NoneType}
        return f"{_expected(only)}, or None" if _expected(only) else ""
    words = {int: "a whole number", float: "a number", bool: "True or False"}
    if kind in words:
        return words[kind]
    return "a tuple of whole numbers" if kind == tuple[int, ...] else ""


def _is(kind: Any, value: Any) -> bool:
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if get_origin(kind) is UnionType:
        return any(_is(one, value) for one in get_args(kind))
    if kind == tuple[int, ...]:
        return isinstance(value, tuple) and all(_is(int, number) for number in value)  # pyright: ignore[reportUnknownVariableType]
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


def _brief(number: int | float) -> str:
    if isinstance(number, float):
        return f"{number:g}"
    exponent = number.bit_length() - 1
    return f"2^{exponent}" if exponent > 20 and number == 2**exponent else str(number)


def _count(kind: Any, name: str, present: object) -> int:
    """How many numbers a parameter has, by its default."""
    (default,) = (member.default for member in fields(kind) if member.name == name)
    like = default if isinstance(default, float | int | tuple) else present
    return len(like) if isinstance(like, tuple) else 1


def _is_computed(value: object) -> bool:
    """True for JAX's arrays, whose value may not be known yet."""
    return hasattr(value, "aval")
