"""Random numbers belong to a step: those of step t follow from the run's key and t alone.

So neither the length of a chunk, nor the driver, nor an interruption can change a result.
"""

from typing import NamedTuple

import jax
from jaxtyping import Array, Int, PRNGKeyArray, UInt32

from upright.agents import dqn
from upright.agents.dqn import DQN
from upright.spec import Spec


class Keys(NamedTuple):
    """What a seed begins with."""

    agent: PRNGKeyArray  # of the first parameters
    reset: PRNGKeyArray  # of the first start state
    run: PRNGKeyArray  # of all steps


class StepNoise(NamedTuple):
    """All that one step leaves to chance."""

    act: dqn.Noise
    replay: UInt32[Array, "G B"]  # which transitions each gradient step learns from
    reset: PRNGKeyArray  # of the start state of the next episode, should this step end one


def keys(seed: PRNGKeyArray) -> Keys:
    """Of one seed."""
    return Keys(*jax.random.split(seed, 3))


def draw(agent: DQN, spec: Spec, run: PRNGKeyArray, step: Int[Array, ""]) -> StepNoise:
    """For step `step` of the run with this key."""
    act_key, replay_key, reset_key = jax.random.split(jax.random.fold_in(run, step), 3)
    return StepNoise(
        act=agent.draw(act_key, spec),
        replay=jax.random.bits(replay_key, (agent.gradient_steps, agent.batch_size)),
        reset=reset_key,
    )
