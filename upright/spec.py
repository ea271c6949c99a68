"""What an agent knows of a task, and what a policy tells of it.

Names, units, ranges, timing, and a symmetry if there is one.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from upright.errors import UprightError

_LIMITS = ("minimum", "maximum", "terminates_below", "terminates_above")


@dataclass(frozen=True)
class Channel:
    """One number of an observation or of a continuous action."""

    name: str
    unit: str
    # typical magnitude [unit], None: to be measured; a network sees (value - offset) / scale
    scale: float | None = 1.0
    offset: float = 0.0  # middle of the range [unit]
    minimum: float = -math.inf  # no value is below it [unit]
    maximum: float = math.inf
    terminates_below: float = -math.inf  # an episode ends below this [unit]
    terminates_above: float = math.inf

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise UprightError(f"channel {self.name!r}: scale is {self.scale}; it must be above 0")
        if not math.isfinite(self.offset):
            raise UprightError(f"channel {self.name!r}: offset is {self.offset}; it must be finite")
        for low, high in (_LIMITS[:2], _LIMITS[2:]):
            if not getattr(self, low) <= getattr(self, high):
                raise UprightError(
                    f"channel {self.name!r}: {low} is {getattr(self, low)}, {high} is"
                    f" {getattr(self, high)}; {low} must not be greater"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; an absent limit is null, since JSON has no infinity."""
        fields = asdict(self)
        return fields | {name: None for name in _LIMITS if math.isinf(fields[name])}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Channel":
        """The inverse of `to_dict`; raises as `Spec.from_dict` does."""
        numbers = {name: float(fields[name]) for name in _LIMITS if fields[name] is not None}
        return cls(
            name=str(fields["name"]),
            unit=str(fields["unit"]),
            scale=None if fields["scale"] is None else float(fields["scale"]),
            offset=float(fields["offset"]),
            **numbers,
        )


@dataclass(frozen=True)
class Vector:
    """An observation of some numbers."""

    channels: tuple[Channel, ...]

    def __post_init__(self) -> None:
        if not self.channels:
            raise UprightError("the observation has no channels; it must have at least one")

    @property
    def size(self) -> int:
        return len(self.channels)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "vector", "channels": [channel.to_dict() for channel in self.channels]}


@dataclass(frozen=True)
class Choice:
    """An action that sets one input of the plant to one of some values.

    An agent knows their indices, the plant knows the values.
    """

    name: str
    unit: str
    values: tuple[float, ...]  # [unit]

    def __post_init__(self) -> None:
        if not self.values or not all(map(math.isfinite, self.values)):
            raise UprightError(
                f"action {self.name!r}: values are {self.values}; they must be finite numbers,"
                " at least one"
            )

    @property
    def count(self) -> int:
        """How many values there are."""
        return len(self.values)

    def physical(self, index: Any) -> Any:
        """Inputs [*B 1] of the plant [unit], float32, for indices [*B]; NumPy or JAX."""
        arrays = _namespace(index)
        return arrays.asarray(self.values, arrays.float32)[index][..., None]

    def opposites(self) -> tuple[int, ...] | None:
        """Index of the value -v for each value v: `Mirror.action_order`; None if there is not."""
        opposite = tuple(-value for value in self.values)
        if sorted(opposite) != sorted(self.values) or len(set(opposite)) != len(opposite):
            return None
        return tuple(map(self.values.index, opposite))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "choice", **asdict(self)}


@dataclass(frozen=True)
class Continuous:
    """An action that sets each of U inputs of the plant, between the bounds of its channel."""

    channels: tuple[Channel, ...]

    def __post_init__(self) -> None:
        if not self.channels:
            raise UprightError("the action has no channels; it must have at least one")
        for channel in self.channels:
            if not -math.inf < channel.minimum < channel.maximum < math.inf:
                raise UprightError(
                    f"action {channel.name!r}: it is between {channel.minimum} and"
                    f" {channel.maximum}; a continuous action needs finite bounds, minimum below"
                    " maximum"
                )

    @property
    def count(self) -> int:
        """How many inputs there are."""
        return len(self.channels)

    def physical(self, action: Any) -> Any:
        """Inputs [*B U] of the plant: the action [*B U], clipped to its bounds; NumPy or JAX."""
        arrays = _namespace(action)
        low = np.array([channel.minimum for channel in self.channels], np.float32)
        high = np.array([channel.maximum for channel in self.channels], np.float32)
        return arrays.clip(arrays.asarray(action), low, high)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "continuous", "channels": [channel.to_dict() for channel in self.channels]}


@dataclass(frozen=True)
class Mirror:
    """A symmetry of a task: what the mirrored task observes and does. Applied twice it is nothing.

    mirrored observation[i] = observation_signs[i] * observation[observation_order[i]]
    mirrored index          = action_order[index]                       (a Choice)
    mirrored action[i]      = action_signs[i] * action[action_order[i]] (Continuous)
    """

    observation_signs: tuple[int, ...]  # +1 or -1
    action_order: tuple[int, ...] = ()  # empty: in place
    action_signs: tuple[int, ...] = ()  # empty: all +1; of a Choice always empty
    observation_order: tuple[int, ...] = ()  # empty: in place

    def __post_init__(self) -> None:
        _check_involution("observation", self.observation_signs, self.observation_order)
        _check_involution("action", self.action_signs, self.action_order)

    def observation(self, observation: Any) -> Any:
        """What the mirrored task observes [*B O], where this one observes [*B O]; NumPy or JAX."""
        return _mirrored(observation, self.observation_signs, self.observation_order)

    def index(self, index: Any) -> Any:
        """The mirrored choices [*B] of choices [*B]; NumPy or JAX."""
        if not self.action_order:
            return index
        return _namespace(index).asarray(self.action_order)[index]

    def action(self, action: Any) -> Any:
        """The mirrored continuous actions [*B U] of actions [*B U]; NumPy or JAX."""
        return _mirrored(action, self.action_signs, self.action_order)


@dataclass(frozen=True)
class Spec:
    """A task as seen from outside."""

    task: str  # the id under which the task is known, e.g. "CartPole-v1"
    observation: Vector
    action: Choice | Continuous
    dt: float | None  # sampling time [s]; None: not known
    episode_steps: int | None  # time limit [steps]; None: there is none
    solved_return: float | None = None  # mean return from which the task counts as solved
    mirror: Mirror | None = None  # None: no symmetry is known

    def __post_init__(self) -> None:
        if self.dt is not None and not 0 < self.dt < math.inf:
            raise UprightError(
                f"task {self.task!r}: dt is {self.dt} s; it must be above 0, or None"
            )
        if self.mirror is not None:
            self._check_mirror(self.mirror)

    @property
    def observation_size(self) -> int:
        """Inputs of a network."""
        return self.observation.size

    @property
    def action_size(self) -> int:
        """Outputs of a network: the values of a Choice, the channels of a Continuous."""
        return self.action.count

    @property
    def input_size(self) -> int:
        """U, the inputs of the plant that an action sets."""
        return 1 if isinstance(self.action, Choice) else self.action.count

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; what is absent is null, an infinite limit, too."""
        return {
            "task": self.task,
            "observation": self.observation.to_dict(),
            "action": self.action.to_dict(),
            "dt": self.dt,
            "episode_steps": self.episode_steps,
            "solved_return": self.solved_return,
            "mirror": asdict(self.mirror) if self.mirror else None,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Spec":
        """The inverse of `to_dict`.

        Raises KeyError, TypeError or ValueError if the input is not of this form, UprightError if
        its numbers cannot be those of a task.
        """
        fields = dict(fields)
        mirror = fields["mirror"]
        fields["task"] = str(fields["task"])
        fields["observation"] = _observation(fields["observation"])
        fields["action"] = _action(fields["action"])
        if mirror is not None:
            mirror = {name: tuple(map(int, values)) for name, values in mirror.items()}
            fields["mirror"] = Mirror(**mirror)
        return cls(**fields)

    def _check_mirror(self, mirror: Mirror) -> None:
        """Raises UprightError if the mirror is one of another observation or action."""
        _check_size(self.task, "observation_signs", mirror.observation_signs, self.observation_size)
        for name, values, size in (
            ("observation_order", mirror.observation_order, self.observation_size),
            ("action_order", mirror.action_order, self.action_size),
            ("action_signs", mirror.action_signs, self.action_size),
        ):
            if values:
                _check_size(self.task, name, values, size)
        if isinstance(self.action, Choice) and mirror.action_signs:
            raise UprightError(
                f"task {self.task!r}: its mirror has action_signs {mirror.action_signs}, and its"
                " action is a Choice; say by action_order which choice becomes which"
            )


def _observation(fields: dict[str, Any]) -> Vector:
    if fields["kind"] != "vector":
        raise ValueError(f"kind of observation {fields['kind']!r}")
    return Vector(tuple(map(Channel.from_dict, fields["channels"])))


def _action(fields: dict[str, Any]) -> Choice | Continuous:
    match fields["kind"]:
        case "choice":
            values = tuple(map(float, fields["values"]))
            return Choice(str(fields["name"]), str(fields["unit"]), values)
        case "continuous":
            return Continuous(tuple(map(Channel.from_dict, fields["channels"])))
        case kind:
            raise ValueError(f"kind of action {kind!r}")


def _check_size(task: str, name: str, values: Sequence[int], size: int) -> None:
    if len(values) != size:
        raise UprightError(
            f"task {task!r}: {name} of its mirror is {tuple(values)}; it must have {size} entries"
        )


def _check_involution(what: str, signs: Sequence[int], order: Sequence[int]) -> None:
    """Raises UprightError unless signs and order, applied twice, change nothing."""
    if not set(signs) <= {-1, 1}:
        raise UprightError(f"mirror: {what}_signs are {tuple(signs)}; each must be 1 or -1")
    if not order:
        return
    twice = [order[i] for i in order if 0 <= i < len(order)]
    if twice != list(range(len(order))):
        raise UprightError(
            f"mirror: {what}_order is {tuple(order)}; applied twice it must be 0 to"
            f" {len(order) - 1} again"
        )
    if signs and (len(signs) != len(order) or any(signs[i] != signs[order[i]] for i in order)):
        raise UprightError(
            f"mirror: {what}_signs {tuple(signs)} do not fit {what}_order {tuple(order)}; what"
            " changes places must have the same sign"
        )


def _mirrored(values: Any, signs: Sequence[int], order: Sequence[int]) -> Any:
    if order:
        values = values[..., np.array(order)]
    return values * np.array(signs, np.float32) if signs else values


def _namespace(values: Any) -> Any:
    """NumPy, or jax.numpy for JAX's arrays, without importing it."""
    return values.__array_namespace__() if hasattr(values, "__array_namespace__") else np
