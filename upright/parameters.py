"""Parameters of plants and tasks: fields of a frozen dataclass, each with its bounds."""

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np

from upright.errors import UprightError

LARGEST = float(np.finfo(np.float32).max)  # what the tasks compute with

T = TypeVar("T", float, tuple[float, ...], tuple[float, float])


Limit = int | float | None


@dataclass(frozen=True)
class Bounds:
    """Which values a field may have; each number of one that has several."""

    above: Limit = None
    at_least: Limit = None
    below: Limit = None
    at_most: Limit = None
    ordered: bool = False  # (low, high), low not above high
    several: bool = False  # any number of numbers, at least one

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
        return " and ".join(f"{word} {at:g}" for word, at in limits.items() if at is not None)


def parameter(
    default: T,
    *,
    above: Limit = None,
    at_least: Limit = None,
    ordered: bool = False,
    several: bool = False,
) -> T:
    """A field of a `Parameters`: a number, or a tuple of numbers, within bounds.

        half_length: float = parameter(0.5, above=0)  # [m]

    `ordered`: a tuple (low, high) whose low must not be above its high. `several`: a tuple of any
    length. Without bounds, any number that is finite in single precision.
    """
    bounds = Bounds(above, at_least, ordered=ordered, several=several)
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
    if is_tuple != wants_tuple or len(numbers) != count or not all(map(_is_finite, numbers)):
        wanted = "numbers" if limits.several else f"{count} numbers" if count > 1 else "a number"
        raise UprightError(f"{name} is {value!r}; it must be {wanted}, finite in single precision")
    if not all(map(limits.allow, numbers)):
        raise UprightError(f"{name} is {value!r}; it must be {limits}")
    if limits.ordered and numbers[0] > numbers[1]:
        raise UprightError(f"{name} is {value!r}; its first number must not be above its second")
    return tuple(map(float, numbers)) if wants_tuple else float(numbers[0])


def _count(kind: Any, name: str, present: object) -> int:
    """How many numbers a parameter has, by its default."""
    (default,) = (member.default for member in fields(kind) if member.name == name)
    like = default if isinstance(default, float | int | tuple) else present
    return len(like) if isinstance(like, tuple) else 1


def _is_computed(value: object) -> bool:
    """True for JAX's arrays, whose value may not be known yet."""
    return hasattr(value, "aval")


def _is_finite(number: object) -> bool:
    """True for a number that the tasks can compute with; a truth value is none."""
    numeric = isinstance(number, int | float | np.integer | np.floating)
    return numeric and not isinstance(number, bool) and bool(abs(number) <= LARGEST)
