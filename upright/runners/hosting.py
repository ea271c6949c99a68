"""What the hosted runner is given, and what it holds of a seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from upright.agents.agent import Agent
from upright.bridge.flat import Flat
from upright.finding import Finding
from upright.runners.hosted_programs import Seed
from upright.runners.runner import Judge
from upright.spec import Spec


class HostedState(NamedTuple):
    """Everything about one seed at one moment, in NumPy."""

    key: Any  # of the run
    agent: Any
    memory: Any  # as `Memory.stored`
    observation: Any  # [E O] the present ones
    action: Any  # [E] or [E U], chosen, not yet carried out
    extras: Any  # of these actions
    resets: Any  # [E] episodes begun
    episode_return: Any  # [E] of the present episodes, so far
    lengths: Any  # [E] of the present episodes, so far
    history: Any  # the actions of the present episodes, one after the other
    steps: Any  # of all environments
    episodes: Any  # finished
    finite: Any  # no metric is NaN or infinite


@dataclass(frozen=True)
class Hosting:
    """What is brought together: an agent, environments of Gymnasium, and how it is evaluated."""

    spec: Spec
    agent: Agent
    most_steps: int  # in one segment
    make_env: Callable[[int | None], Flat]  # of a seed; None: to evaluate
    judge: Judge
    evaluation_seeds: Sequence[int]  # reset seeds of the start states of an evaluation
    max_steps: int | None = None  # after which its episodes are cut off; see `Episodes.run`
    # the seed is evaluated in the environment that it learns in, in turn: there is no other one
    single: bool = False
    inline: bool = False  # one group, in the calling thread: as windows want it
    noticed: tuple[Finding, ...] = ()  # of the environment, when it was looked at

    @cached_property
    def seed(self) -> Seed:
        """What is computed for each seed."""
        return Seed(self.agent, self.spec, self.most_steps // self.agent.environments)
