"""What agents say of their settings and a budget, before hours are spent."""

from upright.calling import option
from upright.finding import Finding

_CHECK = "schedule"


def findings(*found: Finding | None) -> list[Finding]:
    """Those that there are."""
    return [finding for finding in found if finding]


def never_learns(name: str, learning_starts: int, steps: int | float) -> Finding | None:
    """The budget ends before the first learning."""
    if learning_starts < steps:
        return None
    return Finding(
        _CHECK,
        "problem",
        f"steps is {steps:,.0f}, but learning starts after {learning_starts:,} steps",
        f"more {option('steps')}, or a smaller agent.{name}",
    )


def unfinished(
    name: str, start: float, end: float, decay_steps: int, steps: int | float
) -> Finding | None:
    """A linear schedule of a setting that is still under way when the budget ends."""
    if decay_steps <= steps or start == end:
        return None
    value = start + (end - start) * steps / decay_steps
    return Finding(
        _CHECK,
        "advice",
        f"{name} is still {value:.2g} after the budget of {steps:,.0f} steps: its decay takes"
        f" {decay_steps:,}",
        f"more {option('steps')}, or a smaller agent.{name}_decay_steps",
    )


def short_memory(name: str, capacity: int, episode_steps: int | float) -> Finding | None:
    """What is kept is less than an episode."""
    if capacity >= episode_steps:
        return None
    return Finding(
        _CHECK,
        "advice",
        f"{name} holds {capacity:,} steps, an episode {episode_steps:,.0f}",
        f"a larger agent.{name}: ten episodes or more",
    )
