"""The hosted runner: any Gymnasium environment, with one compiled call for each tick."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import jax
import numpy as np

from upright.evaluation.players import Observer
from upright.runners.hosted_group import HostedGroup
from upright.runners.hosted_programs import compile_programs
from upright.runners.hosting import HostedState, Hosting
from upright.runners.own_thread import OwnThread
from upright.runners.runner import (
    SeedGroup,
    States,
    cores,
)
from upright.spec import Choice


@dataclass(frozen=True)
class HostedRunner(Hosting):
    """Brings agents and Gymnasium environments together."""

    def start(
        self,
        seeds: Sequence[int],
        states: States,
        observer: Observer | None = None,
    ) -> list[SeedGroup]:
        """A group for each core; more if some seeds are ahead of others."""

        def steps(seed: int) -> int:
            return int(states[seed].steps) if seed in states else -1  # not with those at step 0

        programs = compile_programs(self.seed)
        size = len(seeds) if self.inline else -(-len(seeds) // cores())
        size = min(size, programs.capacity)
        sets = [
            members[first : first + size]
            for _, same in groupby(sorted(seeds, key=steps), steps)
            for members in [tuple(same)]
            for first in range(0, len(members), size)
        ]
        groups: list[SeedGroup] = []
        try:
            for members in sets:
                make = partial(HostedGroup, self, programs, members, states, observer or Observer())
                groups.append(make() if self.inline else OwnThread(make))
        except BaseException:
            for group in groups:
                group.close()
            raise
        return groups

    def template(self) -> HostedState:
        """What the state of one seed looks like, see `Runner.template`."""
        each, count = self.agent.environments, np.zeros((), np.int32)

        def zeros(like: Any) -> Any:
            return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)

        seed, like = self.seed, self.seed.like
        shapes = jax.eval_shape(lambda: self.agent.init(jax.random.key(0), self.spec))
        return HostedState(
            key=np.zeros(2, np.uint32),
            agent=zeros(shapes),
            memory=seed.memory.on_host(1).stored(0),
            observation=np.zeros(like.observation.shape, np.float32),
            action=zeros(like.action),
            extras=zeros(like.extras),
            resets=np.zeros(each, np.int32),
            episode_return=np.zeros(each),
            lengths=np.zeros(each, np.int32),
            history=np.zeros((0, *like.action.shape[1:]), like.action.dtype),
            steps=count,
            episodes=count,
            finite=np.zeros((), np.bool_),
        )

    def check(self, state: HostedState) -> None:
        """As `Runner.check`."""
        self.seed.memory.check(state.memory, int(state.steps))
        if (state.lengths < 0).any() or state.lengths.sum() != len(state.history):
            raise ValueError("the present episodes have other lengths than their actions")
        if (state.resets < 0).any():
            raise ValueError("less than no episode was begun")
        action = self.spec.action
        chosen = np.concatenate([np.ravel(state.history), np.ravel(state.action)])
        if isinstance(action, Choice) and ((chosen < 0) | (chosen >= action.count)).any():
            raise ValueError("there is no such action")
