"""What is asked of a training."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from upright.agents.dqn import DQN
from upright.errors import UprightError
from upright.training.seeds import check_seeds

Drivers = Literal["fused", "stepwise"]


@dataclass(frozen=True)
class Config:
    """Checked when it is made; written into run.json."""

    task: str
    driver: Drivers
    preset: str
    agent: DQN
    seeds: tuple[int, ...]
    steps: int | None  # budget for each seed: steps of the environment,
    episodes: int | None  # or episodes
    evaluate_every: int  # steps between greedy evaluations
    evaluation_episodes: int  # start states of one evaluation, the same each time
    checkpoint_every: int  # steps between checkpoints

    def __post_init__(self) -> None:
        if self.driver not in get_args(Drivers):
            raise UprightError(f"no task {self.task!r} with driver {self.driver!r}")
        if self.steps is not None and self.episodes is not None:
            raise UprightError("both steps and episodes are given; a training has one budget")
        counts = ("evaluate_every", "evaluation_episodes", "checkpoint_every")
        for name in ("steps", "episodes", *counts):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and 1 <= value < 2**31):
                raise UprightError(
                    f"{name} is {value}; it must be a whole number from 1 on, below 2^31"
                )
        if self.steps is not None and self.steps <= self.agent.warmup_steps:
            raise UprightError(
                f"steps is {self.steps}, but learning starts after {self.agent.warmup_steps} steps"
                " (agent.warmup_steps)"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def settings(self) -> dict[str, Any]:
        """All that a result depends on, apart from the budget: plain JSON values."""
        values = json.loads(json.dumps(self.to_dict()))
        budget = ("steps", "episodes", "checkpoint_every")
        return {name: value for name, value in values.items() if name not in budget}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """The inverse of `to_dict`, after JSON. Raises UprightError on anything else."""
        try:
            agent = agent_from_dict(values["agent"])
            plain: dict[str, Any] = {**values, "agent": agent}
            plain["seeds"] = check_seeds(values["seeds"])
            return cls(**plain)
        except (KeyError, TypeError, ValueError) as error:
            raise UprightError(f"its configuration cannot be read ({error})") from None


def agent_from_dict(values: Mapping[str, Any]) -> DQN:
    """The inverse of `dataclasses.asdict`, after JSON. Raises KeyError, TypeError or ValueError."""
    settings: dict[str, Any] = {**values, "hidden": tuple(values["hidden"])}
    return DQN(**settings)
