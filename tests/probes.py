"""Small tasks whose action values are known, to learn in seconds."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from upright.spec import Channel, Choice, Spec, Vector
from upright.tasks.task import TimeStep


class State(NamedTuple):
    steps: jnp.ndarray


@dataclass(frozen=True)
class Probe:
    """Observes the number of steps since the reset; what the reward is, a subclass says."""

    length: int = 1  # steps of an episode
    terminates: bool = True  # False: the time limit ends it
    blind: bool = False  # always observes 0

    @property
    def spec(self):
        channel = Channel("steps", "1")
        return Spec(
            "probe", Vector((channel,)), Choice("choice", "1", (0.0, 1.0)), 1.0, self.length
        )

    def reset(self, key):
        del key
        return State(jnp.zeros((), jnp.int32))

    def observe(self, state):
        return jnp.where(self.blind, 0.0, state.steps.astype(jnp.float32))[None]

    def step(self, state, action):
        reward = self.reward(state, action)
        state = State(state.steps + 1)
        over = state.steps >= self.length
        terminated, truncated = over & self.terminates, over & (not self.terminates)
        return state, TimeStep(self.observe(state), reward, terminated, truncated)

    def reward(self, state, action):
        """1 in the last step, 0 before it."""
        del action
        return jnp.where(state.steps == self.length - 1, 1.0, 0.0)


@dataclass(frozen=True)
class RewardOfAction(Probe):
    def reward(self, state, action):
        del state
        return jnp.where(action[0] == 1, 1.0, -1.0)


@dataclass(frozen=True)
class AlwaysOne(Probe):
    def reward(self, state, action):
        del state, action
        return jnp.ones(())
