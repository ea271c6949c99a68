"""Observations: informative, and of a size that a network learns from."""

import numpy as np
from jaxtyping import Bool, Float

from upright.checks.recording import Recording
from upright.finding import Finding
from upright.spec import Spec

_NAME = "observations"
_LARGE, _SMALL = 10.0, 0.01  # what the network sees should lie between
_SMALLEST = 1e-6  # as in agents/scaling.py: a smaller deviation counts as none


def check(recording: Recording, spec: Spec, scaled: bool) -> list[Finding]:
    """`scaled`: the agent divides by the task's magnitudes, or by what it measures."""
    names = [channel.name for channel in spec.observation.channels]
    ends = recording.next_observation[recording.ended]
    values = np.concatenate([recording.observation, ends])
    seen, measured = _scaling(values, spec, scaled)
    constant = np.ptp(values, axis=0) == 0
    findings = [
        *_constant(values, names, constant),
        *_outside(recording, values, names),
        *([] if scaled else _large(seen, names)),
        *_squeezed(seen, names, measured & ~constant, scaled),
        *_squeezed(seen, names, ~measured & ~constant, scaled, by_bounds=True),
    ]
    text = f"{len(names)} channels, {seen.min():.2g} to {seen.max():.2g} as the network sees them"
    return findings or [Finding(_NAME, "fine", text)]


def _scaling(
    values: Float[np.ndarray, "N O"], spec: Spec, scaled: bool
) -> tuple[Float[np.ndarray, "N O"], Bool[np.ndarray, " O"]]:
    """What the network sees, and for which channels the scaling is measured."""
    channels = spec.observation.channels
    measured = np.array([scaled and channel.scale is None for channel in channels])
    if not scaled:
        return values, measured
    deviation = values.std(axis=0, dtype=np.float64)
    deviation[deviation <= _SMALLEST] = 1.0
    offset = np.where(measured, values.mean(axis=0), [c.offset for c in channels])
    scale = np.where(measured, deviation, [c.scale or 1.0 for c in channels])
    return (values - offset) / scale, measured


def _constant(
    values: Float[np.ndarray, "N O"], names: list[str], constant: Bool[np.ndarray, " O"]
) -> list[Finding]:
    if not constant.any():
        return []
    first = float(values[0, constant.argmax()])
    kept = _listed(names, constant)
    always = f" at {first:g}" if constant.sum() == 1 else ""
    return [
        Finding(
            _NAME,
            "advice",
            f"{kept}: constant{always}",
            "is it filled in? leave out what can never change",
        )
    ]


def _outside(
    recording: Recording, values: Float[np.ndarray, "N O"], names: list[str]
) -> list[Finding]:
    low, high = recording.low.astype(np.float64), recording.high.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        slack = np.nan_to_num(0.01 * (high - low), posinf=0.0)
    smallest, largest = values.min(axis=0), values.max(axis=0)
    outside = (smallest < low - slack) | (largest > high + slack)
    if not outside.any():
        return []
    worst = int(outside.argmax())
    return [
        Finding(
            _NAME,
            "advice",
            f"{_listed(names, outside)}: outside its declared bounds,"
            f" {smallest[worst]:.3g} to {largest[worst]:.3g}"
            f" in {low[worst]:.3g} to {high[worst]:.3g}",
            "declare the true bounds in observation_space, or inf: the agent scales by them",
        )
    ]


def _large(seen: Float[np.ndarray, "N O"], names: list[str]) -> list[Finding]:
    largest = np.abs(seen).max(axis=0)
    large = largest > _LARGE
    if not large.any():
        return []
    return [
        Finding(
            _NAME,
            "advice",
            f"{_listed(names, large)}: up to {largest.max():.3g} as the network sees it; good is"
            " about 1",
            "set agent.scale_observations",
        )
    ]


def _squeezed(
    seen: Float[np.ndarray, "N O"],
    names: list[str],
    which: Bool[np.ndarray, " O"],
    scaled: bool,
    by_bounds: bool = False,
) -> list[Finding]:
    """Where nine tenths of the values lie so close together that a network sees no difference.

    A contact that is hardly ever made has no spread at all, and is no squeezed channel.
    """
    low, high = np.quantile(seen, [0.05, 0.95], axis=0)
    spread = (high - low) / 2
    squeezed = which & (spread > 0) & (spread < _SMALL)
    if not squeezed.any():
        return []
    if not scaled:
        fix = "set agent.scale_observations"
    elif by_bounds:
        fix = "declare narrower bounds in observation_space, or inf: then it is measured"
    else:
        fix = "outliers rule the scale: clip them with gymnasium.wrappers.TransformObservation"
    return [
        Finding(
            _NAME,
            "advice",
            f"{_listed(names, squeezed)}: changes by only"
            f" +-{spread[squeezed].min():.1g} as the network sees it; good is about 1",
            fix,
        )
    ]


def _listed(names: list[str], which: Bool[np.ndarray, " O"]) -> str:
    """The first three, and how many more there are."""
    chosen = [names[i] for i in np.flatnonzero(which)]
    more = f" and {len(chosen) - 3} more" if len(chosen) > 3 else ""
    return ", ".join(chosen[:3]) + more
