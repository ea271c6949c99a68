"""Environment against learner: which of the two takes the time?"""

from dataclasses import dataclass

from upright.finding import Finding

_LONG = 600.0  # of a training whose environment is worth some work [s]


@dataclass(frozen=True)
class Speed:
    """In steps per second."""

    environment: float  # one alone, random actions
    training: float  # of all seeds together, environments included
    cores: int  # that work at the same time
    compiled: bool  # environment and learner are one compiled loop


def check(speed: Speed, steps: float, seeds: int, evaluated: float) -> list[Finding]:
    """`steps`: the budget of each seed. `evaluated`: steps of its evaluations, each as slow as one
    of the environment alone.
    """
    evaluating = evaluated * seeds / speed.environment
    seconds = steps * seeds / speed.training + evaluating
    who = "1 seed takes" if seeds == 1 else f"{seeds} seeds take"
    part = f"{_duration(evaluating)} of it" if evaluating >= 1 else "less than 1 s of it"
    time = (
        f"{who} about {_duration(seconds)}, {part} to evaluate policies, if their episodes are as"
        " long as random ones"
    )
    if speed.compiled:
        text = f"{speed.training:,.0f} steps/s, task and learner in one compiled loop; {time}"
        return [Finding("speed", "fine", text)]
    # What the environment does not take of the seconds for a step, the learner does.
    each = speed.training / min(speed.cores, seeds)
    share = min(0.99, each / speed.environment)
    cores = "1 core" if speed.cores == 1 else f"{speed.cores} cores"
    seen = (
        f"environment {speed.environment:,.0f} steps/s, learner {each / (1 - share):,.0f},"
        f" together {speed.training:,.0f} on {cores}: {time}"
    )
    if share > 0.5 and seconds > _LONG:
        return [
            Finding(
                "speed",
                "advice",
                f"the environment takes {share:.0%} of the time: {seen}",
                "profile step(): fewer substeps, no rendering, no allocation in its loop",
            )
        ]
    limit = "environment" if share > 0.5 else "learner"
    return [Finding("speed", "fine", f"the {limit} limits: {seen}")]


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
