"""Where a policy comes from, as its file says it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upright.plain import count, number, only, typed


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
    # arguments of the environment itself, by name
    env: Mapping[str, str | int | float | bool | None] = field(
        default_factory=dict[str, "str | int | float | bool | None"]
    )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Provenance":
        """The inverse of `dataclasses.asdict`, after JSON.

        Raises AttributeError, LookupError, TypeError or ValueError on anything else.
        """
        fields = {"env": {}, **fields}  # files of before there was this member have none
        only(fields, {"agent", "seed", "step", "evaluation", "physics", "randomise", "env"})
        evaluation = fields["evaluation"]
        return cls(
            agent=typed(fields["agent"], str),
            seed=count(fields["seed"]),
            step=count(fields["step"]),
            evaluation=None if evaluation is None else _score(evaluation),
            physics={name: _numbers(value) for name, value in fields["physics"].items()},
            randomise={name: _range(*ends) for name, ends in fields["randomise"].items()},
            env={name: _scalar(value) for name, value in fields["env"].items()},
        )


def _score(fields: Mapping[str, Any]) -> Score:
    only(fields, {"mean_return", "min_return", "max_return", "episodes"})
    return Score(
        mean_return=number(fields["mean_return"]),
        min_return=number(fields["min_return"]),
        max_return=number(fields["max_return"]),
        episodes=count(fields["episodes"]),
    )


def _scalar(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | bool) or type(value) is int:
        return value
    return number(value)


def _numbers(value: object) -> float | tuple[float, ...]:
    return tuple(map(number, value)) if isinstance(value, list) else number(value)


def _range(low: object, high: object) -> tuple[float, float]:
    ends = number(low), number(high)
    if ends[0] > ends[1]:
        raise ValueError("the lowest is above the highest")
    return ends
