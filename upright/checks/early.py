"""What can be said of a training before anything was played: `train` warns of it."""

import math

from upright.agents.dqn import DQN
from upright.checks import ends, schedule
from upright.finding import Finding
from upright.spec import Spec


def check(agent: DQN, spec: Spec, steps: int | None, episodes: int | None) -> list[Finding]:
    """What is not fine. `steps`, `episodes`: the budget of a seed, one of the two."""
    longest = math.inf if spec.episode_steps is None else spec.episode_steps
    budget = float(steps or (episodes or 0) * longest)
    findings = [*schedule.check(agent, budget), *ends.declared_limit(spec.episode_steps)]
    return [finding for finding in findings if finding.severity != "fine"]
