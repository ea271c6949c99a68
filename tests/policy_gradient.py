"""A small on-policy agent: what the contract of agents must carry besides DQN."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from upright.agents import review
from upright.errors import UprightError
from upright.memory.rollout import Rollout
from upright.networks.mlp import MLP
from upright.parameters import check_settings, setting
from upright.policy import Policy

NETWORKS = {"hidden": (16,), "optimizer": optax.adam(5e-3)}


class State(NamedTuple):
    params: tuple[MLP, MLP]  # actor, critic
    optimizer: Any
    steps: Any


class Metrics(NamedTuple):
    loss: Any
    value: Any


@dataclass(frozen=True)
class PolicyGradient:
    """Advantage actor-critic, one update per rollout: Sutton and Barto (2018), section 13.5."""

    environments: int = setting(4, at_least=1)
    ticks: int = setting(8, at_least=1)
    gamma: float = setting(0.95, at_least=0, at_most=1)
    continuous: bool = False  # normal around the outputs, else one of them
    Metrics: ClassVar = Metrics
    __post_init__ = check_settings

    def fits(self, spec):
        if spec.masked:  # its probabilities are of all actions
            raise UprightError(f"policy gradient learns without masks, {spec.task} has some")

    def memory(self, like):
        return Rollout.of(like, self.ticks)

    def init(self, key, spec):
        sizes = (spec.observation_size, *NETWORKS["hidden"])
        keys = jax.random.split(key)
        params = (MLP((*sizes, spec.action_size), keys[0]), MLP((*sizes, 1), keys[1]))
        return State(params, NETWORKS["optimizer"].init(params), jnp.zeros((), jnp.int32))

    def draw(self, key, spec):
        sample = jax.random.normal if self.continuous else jax.random.gumbel
        return sample(key, (self.environments, spec.action_size))

    def outputs(self, state, observation):
        return state.params[0](observation)

    def select(self, outputs, noise, steps, mask=None):
        action = outputs + noise if self.continuous else (outputs + noise).argmax(axis=-1)
        return action, self._log_prob(outputs, action)

    def _log_prob(self, outputs, action):
        if self.continuous:
            return -((action - outputs) ** 2).sum(axis=-1) / 2
        xp = outputs.__array_namespace__()
        logits = outputs - xp.log(xp.exp(outputs).sum(axis=-1, keepdims=True))
        return xp.where(np.arange(outputs.shape[-1]) == action[..., None], logits, 0).sum(axis=-1)

    def greedy(self, outputs, mask=None):
        return outputs if self.continuous else outputs.argmax(axis=-1)

    def learn(self, state, experience, noise):
        def loss(params):
            actor, critic = params
            value, after = (
                critic(x)[..., 0] for x in (experience.observation, experience.next_observation)
            )
            target = experience.reward + self.gamma * experience.discount * after
            advantage = jax.lax.stop_gradient(target) - value
            log_prob = self._log_prob(actor(experience.observation), experience.action)
            ratio = jnp.exp(log_prob - experience.extras)  # 1: one update with each rollout
            policy = -(ratio * jax.lax.stop_gradient(advantage)).mean()
            return policy + jnp.square(advantage).mean(), value.mean()

        (value, mean), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, optimizer = NETWORKS["optimizer"].update(gradient, state.optimizer)
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, optimizer=optimizer), Metrics(value, mean)

    def count(self, state, transition):
        return state._replace(steps=state.steps + self.environments)

    def to_policy(self, state, spec):
        size = spec.observation_size
        offset, scale = np.zeros(size, np.float32), np.ones(size, np.float32)
        return Policy(spec, *state.params[0].to_numpy(), offset, scale)

    def schedules(self, steps):
        return {}

    def review(self, steps, episode_steps=0.0):
        return review.findings(
            review.never_learns("ticks", self.ticks * self.environments - 1, steps)
        )
