"""Policies in words, for the terminal."""

from collections.abc import Mapping
from dataclasses import replace

from upright.policy import Provenance, Score
from upright.spec import Choice, Spec
from upright.training.display import number as number

_MOST_INPUTS = 8  # of a plant, that are named one by one


def action(spec: Spec) -> str:
    """`inputs`, how often, and whether all of them may be chosen."""
    often = f", every {spec.dt:g} s" if spec.dt else ""
    return inputs(spec) + often + (", of those that are allowed (action mask)" * spec.masked)


def inputs(spec: Spec) -> str:
    """What an action sets, its values or bounds with their units."""
    if isinstance(spec.action, Choice):
        values = ", ".join(f"{value:g}" for value in spec.action.values)
        text = f"{spec.action.name} of {values}{_unit(spec.action.unit)}"
    else:
        text = ", ".join(
            f"{channel.name} from {channel.minimum:g} to {channel.maximum:g}{_unit(channel.unit)}"
            for channel in spec.action.channels[:_MOST_INPUTS]
        )
        more = len(spec.action.channels) - _MOST_INPUTS
        text += f" and {more} more" if more > 0 else ""
    return text


def _unit(unit: str) -> str:
    return "" if unit == "1" else f" {unit}"


def physics(provenance: Provenance) -> str:
    """What was changed of the plant's parameters, and what was drawn for each episode."""
    fixed = [
        f"{name} {numbers(value)}"
        for name, value in provenance.physics.items()
        if name not in provenance.randomise
    ]
    return ", ".join([*fixed, *drawn(provenance.randomise)]) or "as the task has it"


def played(provenance: Provenance, randomised: bool) -> str | None:
    """Which physics an evaluation had; None for those of the task."""
    if randomised:
        return f"randomised physics ({physics(provenance)})"
    nominal = physics(replace(provenance, randomise={}))
    kind = "nominal physics" if provenance.randomise else "physics"
    return f"{kind} ({nominal})" if provenance.physics or provenance.randomise else None


def drawn(ranges: Mapping[str, tuple[float, ...]]) -> list[str]:
    """What was drawn for each episode, e.g. "mass 0.1 to 0.3"."""
    return [f"{name} {low:g} to {high:g}" for name, (low, high) in ranges.items()]


def numbers(value: float | tuple[float, ...]) -> str:
    """A parameter: a number or several."""
    return " ".join(f"{number:g}" for number in (value if isinstance(value, tuple) else [value]))


def count(number: int, what: str) -> str:
    """E.g. "1 core", "2 cores"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def score(score: Score | None) -> str:
    """Of the greedy episodes that a policy was chosen by."""
    if score is None:
        return "none"
    return (
        f"mean return {number(score.mean_return)}, from {number(score.min_return)} to"
        f" {number(score.max_return)}, in {count(score.episodes, 'episode')}"
    )
