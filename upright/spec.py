"""What an agent knows of a task, and what a policy tells of it: names, units, scales, timing."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from upright.errors import UprightError


@dataclass(frozen=True)
class Channel:
    """One number of the observation."""

    name: str
    unit: str
    # typical magnitude [unit], None: to be measured; a network sees (observation - offset) / scale
    scale: float | None = 1.0
    offset: float = 0.0  # middle of the range [unit]
    low: float = -math.inf  # an episode ends below this [unit]
    high: float = math.inf  # an episode ends above this [unit]

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise UprightError(f"channel {self.name!r}: scale is {self.scale}; it must be above 0")


@dataclass(frozen=True)
class Spec:
    """A task with discrete actions, as seen from outside."""

    task: str  # the id under which the task is known, e.g. "CartPole-v1"
    observation: tuple[Channel, ...]
    action: str  # what the actions set, e.g. "force"
    action_unit: str
    action_values: tuple[float, ...]  # [action_unit], one for each action
    dt: float | None  # sampling time [s]; None: not known
    episode_steps: int | None  # time limit [steps]; None: there is none
    solved_return: float | None = None  # mean return from which the task counts as solved

    @property
    def observation_size(self) -> int:
        return len(self.observation)

    @property
    def action_count(self) -> int:
        return len(self.action_values)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; an absent limit is null, since JSON has no infinity."""
        fields = asdict(self)
        for channel in fields["observation"]:
            for limit in ("low", "high"):
                if math.isinf(channel[limit]):
                    channel[limit] = None
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Spec":
        """The inverse of `to_dict`. Raises KeyError, TypeError or ValueError on other input."""
        fields = dict(fields)
        fields["observation"] = tuple(
            Channel(
                name=str(channel["name"]),
                unit=str(channel["unit"]),
                scale=None if channel["scale"] is None else float(channel["scale"]),
                offset=float(channel["offset"]),
                low=-math.inf if channel["low"] is None else float(channel["low"]),
                high=math.inf if channel["high"] is None else float(channel["high"]),
            )
            for channel in fields["observation"]
        )
        fields["action_values"] = tuple(float(value) for value in fields["action_values"])
        for name in ("task", "action", "action_unit"):
            fields[name] = str(fields[name])
        spec = cls(**fields)
        if spec.dt is not None and not 0 < spec.dt < math.inf:
            raise ValueError(f"sampling time {spec.dt}")
        return spec
