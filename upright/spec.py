"""What an agent knows of a task, and what a policy tells of it.

Names, units, ranges, timing, and a symmetry if there is one.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any

import numpy as np

from upright import plain
from upright.errors import UprightError, shown
from upright.parameters import LARGEST, SMALLEST, is_finite

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
        _check_text("a channel's name", self.name)
        _check_text(f"channel {self.name!r}: unit", self.unit)
        if self.scale is not None and not (is_finite(self.scale) and self.scale >= SMALLEST):
            raise UprightError(
                f"channel {self.name!r}: scale is {shown(self.scale)}; it must be above 0 and"
                " finite, in single precision"
            )
        if not is_finite(self.offset):
            raise UprightError(
                f"channel {self.name!r}: offset is {shown(self.offset)}; it must be finite, in"
                " single precision"
            )
        for name in _LIMITS:
            _check_limit(f"channel {self.name!r}: {name}", getattr(self, name))
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
        plain.only(fields, {"name", "unit", "scale", "offset", *_LIMITS})
        numbers = {name: plain.single(fields[name]) for name in _LIMITS if fields[name] is not None}
        return cls(
            name=fields["name"],
            unit=fields["unit"],
            scale=None if fields["scale"] is None else plain.single(fields["scale"]),
            offset=plain.single(fields["offset"]),
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
        _check_text("an action's name", self.name)
        _check_text(f"action {self.name!r}: unit", self.unit)
        if not self.values or not all(map(is_finite, self.values)):
            raise UprightError(
                f"action {self.name!r}: values are {shown(self.values)}; they must be finite"
                " numbers in single precision, at least one"
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
            if not -LARGEST <= channel.minimum < channel.maximum <= LARGEST:
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


@dataclass(frozen=True, repr=False)
class Spec:
    """A task as seen from outside."""

    task: str  # the id under which the task is known, e.g. "CartPole-v1"
    observation: Vector
    action: Choice | Continuous
    dt: float | None  # sampling time [s]; None: not known
    episode_steps: int | None  # time limit [steps]; None: there is none
    solved_return: float | None = None  # mean return from which the task counts as solved
    mirror: Mirror | None = None  # None: no symmetry is known
    masked: bool = False  # it says at each moment which values of its Choice are allowed

    def __post_init__(self) -> None:
        _check_text("the task's name", self.task)
        if self.dt is not None and not (is_finite(self.dt) and self.dt >= SMALLEST):
            raise UprightError(
                f"task {self.task!r}: dt is {shown(self.dt)} s; it must be above 0, or None"
            )
        steps = self.episode_steps
        if steps is not None and not (type(steps) is int and 1 <= steps < 2**31):
            raise UprightError(
                f"task {self.task!r}: episode_steps is {shown(steps)}; it must be a whole"
                " number from 1 on, below 2^31, or None"
            )
        if self.solved_return is not None and not is_finite(self.solved_return):
            raise UprightError(
                f"task {self.task!r}: solved_return is {shown(self.solved_return)}; it must be"
                " finite, or None"
            )
        if self.mirror is not None:
            self._check_mirror(self.mirror)
        if type(self.masked) is not bool:
            raise UprightError(
                f"task {self.task!r}: masked is {shown(self.masked)}; it must be True or False"
            )
        if self.masked and not isinstance(self.action, Choice):
            raise UprightError(
                f"task {self.task!r}: masked is True, and only the values of a Choice can be masked"
            )

    def __repr__(self) -> str:
        kind = "actions" if isinstance(self.action, Choice) else "continuous actions"
        often = f", every {self.dt:g} s" if self.dt else ""
        counts = f"observations: {self.observation_size}, {kind}: {self.action_size}"
        return f"Spec({self.task}: {counts}{often})"

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
        """Plain JSON values; what is absent is null, an infinite limit, too.

        Without masks nothing is said of them, so that readers who know of none read it.
        """
        fields = {
            "task": self.task,
            "observation": self.observation.to_dict(),
            "action": self.action.to_dict(),
            "dt": self.dt,
            "episode_steps": self.episode_steps,
            "solved_return": self.solved_return,
            "mirror": asdict(self.mirror) if self.mirror else None,
        }
        return fields | {"masked": True} if self.masked else fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Spec":
        """The inverse of `to_dict`.

        Raises KeyError, TypeError or ValueError if the input is not of this form, UprightError if
        its numbers cannot be those of a task.
        """
        fields = {"masked": False, **fields}
        plain.only(fields, {field.name for field in dataclass_fields(cls)})
        mirror = fields["mirror"]
        if mirror is not None:
            mirror = Mirror(**{name: tuple(map(_whole, mirror[name])) for name in mirror})
        dt, solved = fields["dt"], fields["solved_return"]
        return cls(
            task=fields["task"],
            observation=_observation(fields["observation"]),
            action=_action(fields["action"]),
            dt=None if dt is None else plain.single(dt),
            episode_steps=fields["episode_steps"],
            solved_return=None if solved is None else plain.single(solved),
            mirror=mirror,
            masked=plain.typed(fields["masked"], bool),
        )

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
            plain.only(fields, {"kind", "name", "unit", "values"})
            return Choice(
                fields["name"], fields["unit"], tuple(map(plain.single, fields["values"]))
            )
        case "continuous":
            return Continuous(tuple(map(Channel.from_dict, fields["channels"])))
        case kind:
            raise ValueError(f"kind of action {kind!r}")


def _whole(value: object) -> int:
    return plain.typed(value, int)


def _check_text(what: str, text: object) -> None:
    """Raises UprightError unless it is text that a file and a terminal can hold."""
    if not isinstance(text, str):
        raise UprightError(f"{what} is {shown(text)}; it must be text")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UprightError(f"{what} is {text!r}; it has half of a surrogate pair")


def _check_limit(what: str, number: object) -> None:
    """Raises UprightError unless it is a number in single precision, or infinity."""
    if not is_finite(number) and number not in (-math.inf, math.inf):
        raise UprightError(
            f"{what} is {shown(number)}; it must be a number, finite in single precision, or"
            " infinity"
        )


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
