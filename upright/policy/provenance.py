"""Where a policy comes from, as its file says it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Score:
    """Undiscounted returns of the greedy episodes that a policy was chosen by."""

    mean_return: float
    min_return: float
    max_return: float
    episodes: int


@dataclass(frozen=True)
class Provenance:
    """Where a policy comes from."""

    agent: str = "unknown"  # e.g. "DQN"
    seed: int = 0
    step: int = 0  # of the environment, after which it was taken
    evaluation: Score | None = None  # None: it was not evaluated
    # what was changed of the plant's parameters, by name [their units]
    physics: Mapping[str, float | tuple[float, ...]] = field(
        default_factory=dict[str, float | tuple[float, ...]]
    )
    # what was drawn anew for each episode: lowest and highest, by name [their units]
    randomise: Mapping[str, tuple[float, float]] = field(
        default_factory=dict[str, tuple[float, float]]
    )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Provenance":
        """The inverse of `dataclasses.asdict`, after JSON.

        Raises AttributeError, LookupError, TypeError or ValueError on anything else.
        """
        evaluation = fields["evaluation"]
        return cls(
            agent=_typed(fields["agent"], str),
            seed=_count(fields["seed"]),
            step=_count(fields["step"]),
            evaluation=None if evaluation is None else _score(evaluation),
            physics={name: _numbers(value) for name, value in fields["physics"].items()},
            randomise={name: _range(*ends) for name, ends in fields["randomise"].items()},
        )


def _score(fields: Mapping[str, Any]) -> Score:
    return Score(
        mean_return=_number(fields["mean_return"]),
        min_return=_number(fields["min_return"]),
        max_return=_number(fields["max_return"]),
        episodes=_count(fields["episodes"]),
    )


def _typed(value: object, kind: type[T]) -> T:
    # A bool is an int to isinstance, and no count.
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _count(value: object) -> int:
    count = _typed(value, int)
    if count < 0:
        raise ValueError(f"{count} is below 0")
    return count


def _number(value: object) -> float:
    number = float(value) if type(value) is int else _typed(value, float)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not finite")
    return number


def _numbers(value: object) -> float | tuple[float, ...]:
    return tuple(map(_number, value)) if isinstance(value, list) else _number(value)


def _range(low: object, high: object) -> tuple[float, float]:
    return _number(low), _number(high)
