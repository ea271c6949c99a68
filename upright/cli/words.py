"""Policies in words, for the terminal."""

from upright.policy import Provenance, Score
from upright.spec import Choice, Spec

_MOST_INPUTS = 8  # of a plant, that are named one by one


def action(spec: Spec) -> str:
    """What an action sets, its values or bounds with their units, and how often."""
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
    return text + (f", every {spec.dt:g} s" if spec.dt else "")


def _unit(unit: str) -> str:
    return "" if unit == "1" else f" {unit}"


def physics(provenance: Provenance) -> str:
    """What was changed of the plant's parameters, and what was drawn for each episode."""
    fixed = [f"{name} {value:g}" for name, value in provenance.physics.items()]
    drawn = [f"{name} {low:g} to {high:g}" for name, (low, high) in provenance.randomise.items()]
    return ", ".join(fixed + drawn) or "as the task has it"


def score(score: Score | None) -> str:
    """Of the greedy episodes that a policy was chosen by."""
    if score is None:
        return "none"
    return (
        f"mean return {score.mean_return:g}, from {score.min_return:g} to {score.max_return:g},"
        f" in {score.episodes} episodes"
    )
