"""Random numbers belong to a tick: those of tick t follow from the run's key and t alone.

So neither the length of a segment, nor the runner, nor an interruption can change a result.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PRNGKeyArray

from upright.agents.agent import Agent
from upright.memory.memory import Memory
from upright.memory.transition import Transition
from upright.spec import Spec


class Keys(NamedTuple):
    """What a seed begins with."""

    agent: PRNGKeyArray  # of the first parameters
    reset: PRNGKeyArray  # of the first start states
    run: PRNGKeyArray  # of all ticks


class Randomness(NamedTuple):
    """All that one tick leaves to chance."""

    agent: Any  # what `Agent.draw` made
    memory: Any  # what `Memory.draw` made
    reset: Key[Array, " E"]  # of the next start states, should this tick end episodes


def keys(seed: PRNGKeyArray) -> Keys:
    """The keys that a seed's own key is split into, once, at its beginning."""
    return Keys(*jax.random.split(seed, 3))


def draw(
    agent: Agent, memory: Memory, spec: Spec, run: PRNGKeyArray, tick: Int[Array, ""]
) -> Randomness:
    """For tick `tick` of the run with this key."""
    agent_key, memory_key, reset_key = jax.random.split(jax.random.fold_in(run, tick), 3)
    return Randomness(
        agent=agent.draw(agent_key, spec),
        memory=memory.draw(memory_key),
        reset=for_each(reset_key, agent.environments),
    )


def for_each(key: PRNGKeyArray, environments: int) -> Key[Array, " E"]:
    """A key for each environment; one alone has the key itself."""
    return key[None] if environments == 1 else jax.random.split(key, environments)


def transition_like(agent: Agent, spec: Spec) -> Transition:
    """Shapes and types of the transition of one tick."""

    def one(key: PRNGKeyArray) -> Transition:
        observation = jnp.zeros((agent.environments, spec.observation_size))
        outputs = agent.outputs(agent.init(key, spec), observation)
        mask = jnp.ones((agent.environments, spec.action_size), bool) if spec.masked else None
        noise, steps = agent.draw(key, spec), jnp.zeros((), jnp.int32)
        action, extras = agent.select(outputs, noise, steps, mask)
        zeros = jnp.zeros(agent.environments)
        return Transition(observation, action, zeros, zeros, observation, zeros > 0, extras, mask)

    return jax.eval_shape(one, jax.random.key(0))
