"""The compiled runner: environments, memory, learning and acting of one seed in one loop."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from upright.agents.agent import Agent
from upright.evaluation import native
from upright.memory.memory import Memory
from upright.memory.transition import Transition
from upright.runners import randomness
from upright.runners.runner import StepLog
from upright.tasks.task import Task


class Carry(NamedTuple):
    """Everything about one seed at one moment; donated to each call, which updates it in place."""

    key: PRNGKeyArray  # of the run; the random numbers of tick t come from fold_in(key, t)
    agent: Any
    memory: Any
    environment: Any  # states of the task, with a leading axis E
    episode_return: Float[Array, " E"]  # of the present episodes, so far
    episode_length: Int[Array, " E"]
    steps: Int[Array, ""]  # of all environments
    episodes: Int[Array, ""]  # finished
    finite: Bool[Array, ""]  # no metric is NaN or infinite


@dataclass(frozen=True)
class Compiled:
    """Takes one seed on; pure functions, compiled with the seed axis by `compiled_seeds`."""

    task: Task
    agent: Agent
    most_steps: int  # in one call of `advance`
    evaluation_episodes: int
    max_steps: int | None = None  # of an evaluated episode; None: 1,000 without a time limit

    @property
    def environments(self) -> int:
        """How many the seed acts in side by side, E."""
        return self.agent.environments

    @cached_property
    def memory(self) -> Memory:
        """What the agent keeps of its experience of this task."""
        return self.agent.memory(randomness.transition_like(self.agent, self.task.spec))

    def init(self, key: PRNGKeyArray) -> Carry:
        """The beginning of a seed."""
        keys = randomness.keys(key)
        count = jnp.zeros((), jnp.int32)
        return Carry(
            key=keys.run,
            agent=self.agent.init(keys.agent, self.task.spec),
            memory=self.memory.init(),
            environment=self._resets(keys.reset),
            episode_return=jnp.zeros(self.environments),
            episode_length=jnp.zeros(self.environments, jnp.int32),
            steps=count,
            # A copy, since each is updated in place.
            episodes=jnp.copy(count),
            finite=jnp.array(True),
        )

    def advance(
        self, carry: Carry, steps: Int[Array, ""], episodes: Int[Array, ""]
    ) -> tuple[Carry, Int[Array, ""], Float[Array, "T columns"]]:
        """Goes on for `steps` steps, at most `most_steps`, or until `episodes` are finished in all.

        Also ends with the tick whose metrics are not finite. Returns the carry, the number of ticks
        taken, and as many packed rows of `StepLog`.
        """
        ticks = self.most_steps // self.environments
        first = carry.steps // self.environments
        drawn = jax.vmap(self.draw, (None, 0))(carry.key, first + jnp.arange(ticks))

        def unfinished(loop: _Loop) -> Bool[Array, ""]:
            more = loop.taken * self.environments < steps
            return more & (loop.carry.episodes < episodes) & loop.carry.finite

        def tick(loop: _Loop) -> _Loop:
            carry, row = self._tick(loop.carry, jax.tree.map(lambda x: x[loop.taken], drawn))
            return _Loop(loop.taken + 1, carry, loop.log.at[loop.taken].set(row))

        columns = StepLog.width(self.environments, len(self.agent.Metrics._fields))
        begin = _Loop(jnp.zeros_like(first), carry, jnp.zeros((ticks, columns)))
        end = jax.lax.while_loop(unfinished, tick, begin)
        return end.carry, end.taken, end.log

    def evaluate(self, agent: Any) -> tuple[Float[Array, " N"], Int[Array, " N"], Bool[Array, ""]]:
        """Returns and lengths of N greedy episodes, from start states that are always the same.

        And whether all parameters are finite: the last learning may have spoiled some that no
        metric has seen yet.
        """

        def act(observations: Float[Array, "N O"]) -> Any:
            return self.agent.greedy(self.agent.outputs(agent, observations))

        params = jax.tree.leaves(agent.params)
        finite = jnp.array([jnp.isfinite(leaf).all() for leaf in params]).all()
        played = native.play(self.task, act, self.evaluation_keys(), self.max_steps)
        return *played, finite

    def evaluation_keys(self) -> Key[Array, " N"]:
        """The keys from which the start states of an evaluation are drawn."""
        # A root that no seed has: theirs are below 2^32 and begin with a zero word.
        root = jax.random.wrap_key_data(jnp.array([1, 0], jnp.uint32))
        return jax.random.split(root, self.evaluation_episodes)

    def draw(self, key: PRNGKeyArray, tick: Int[Array, ""]) -> randomness.Randomness:
        """All that a tick leaves to chance; in the place of reset keys the next start states."""
        drawn = randomness.draw(self.agent, self.memory, self.task.spec, key, tick)
        return drawn._replace(reset=jax.vmap(self.task.reset)(drawn.reset))

    def _resets(self, key: PRNGKeyArray) -> Any:
        return jax.vmap(self.task.reset)(randomness.for_each(key, self.environments))

    def _tick(
        self, carry: Carry, drawn: randomness.Randomness
    ) -> tuple[Carry, Float[Array, " columns"]]:
        agent, observation = self.agent, jax.vmap(self.task.observe)(carry.environment)
        outputs = agent.outputs(carry.agent, observation)
        action, extras = agent.select(outputs, drawn.agent, carry.steps)
        inputs = self.task.spec.action.physical(action)
        environment, timestep = jax.vmap(self.task.step)(carry.environment, inputs)
        ended = timestep.terminated | timestep.truncated
        transition = Transition(
            observation=observation,
            action=action,
            reward=timestep.reward,
            discount=1 - timestep.terminated.astype(jnp.float32),
            next_observation=timestep.observation,
            ended=ended,
            extras=extras,
        )
        memory = self.memory.add(carry.memory, transition)
        steps = carry.steps + self.environments
        learned = self.memory.due(steps)
        state, metrics = self._learn(carry.agent, memory, drawn, learned)
        total = carry.episode_return + timestep.reward
        length = carry.episode_length + 1
        columns = (ended, total, length, timestep.terminated, learned[None], metrics)
        carry = Carry(
            key=carry.key,
            agent=agent.count(state, transition),
            memory=memory,
            environment=jax.tree.map(
                lambda fresh, present: jnp.where(_along(ended, present), fresh, present),
                drawn.reset,
                environment,
            ),
            episode_return=jnp.where(ended, 0, total),
            episode_length=jnp.where(ended, 0, length),
            steps=steps,
            episodes=carry.episodes + ended.sum(dtype=jnp.int32),
            finite=jnp.isfinite(metrics).all(),
        )
        return carry, jnp.concatenate([jnp.asarray(c, jnp.float32) for c in columns])

    def _learn(
        self, state: Any, memory: Any, drawn: randomness.Randomness, due: Bool[Array, ""]
    ) -> tuple[Any, Float[Array, " M"]]:
        """The learning of one tick, if it is due."""

        def learn(state: Any) -> tuple[Any, Float[Array, " M"]]:
            experience = self.memory.unpack(self.memory.sample(memory, drawn.memory))
            state, metrics = self.agent.learn(state, experience, drawn.agent)
            return state, jnp.stack(metrics)

        def wait(state: Any) -> tuple[Any, Float[Array, " M"]]:
            return state, jnp.zeros(len(self.agent.Metrics._fields))

        return jax.lax.cond(due, learn, wait, state)


class _Loop(NamedTuple):
    """What goes around in one call of `advance`."""

    taken: Int[Array, ""]
    carry: Carry
    log: Float[Array, "T columns"]


def _along(mask: Bool[Array, " E"], array: Any) -> Bool[Array, "E ..."]:
    """The mask, of as many axes as the array has."""
    return mask.reshape(mask.shape + (1,) * (array.ndim - 1))
