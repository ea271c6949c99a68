"""The fused driver: environment, replay, learning and acting of one seed in one compiled loop."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, UInt32

from upright.agents import dqn, replay
from upright.agents.dqn import DQN
from upright.agents.replay import Replay, Transition
from upright.evaluation import native
from upright.tasks.task import Task, TimeStep
from upright.training import noise
from upright.training.fleet import Step


class Carry(NamedTuple):
    """Everything about one seed at one moment; donated to each chunk, which updates it in place."""

    key: PRNGKeyArray  # of the run; the random numbers of step t come from fold_in(key, t)
    agent: dqn.State
    replay: Replay
    environment: Any  # the task's own state
    episode_return: Float[Array, ""]  # of the present episode, so far
    episode_length: Int[Array, ""]
    healthy: Bool[Array, ""]  # no loss and no parameter is NaN or infinite


@dataclass(frozen=True)
class Fused:
    """Drives one seed; pure functions, compiled with the seed axis by `training.fused_crew`."""

    task: Task
    agent: DQN
    chunk: int  # most steps in one call of `advance`
    evaluation_episodes: int

    def init(self, key: PRNGKeyArray) -> Carry:
        keys = noise.keys(key)
        return Carry(
            key=keys.run,
            agent=self.agent.init(keys.agent, self.task.spec),
            replay=replay.init(self.agent.replay_size, self.task.spec.observation_size),
            environment=self.task.reset(keys.reset),
            episode_return=jnp.zeros(()),
            episode_length=jnp.zeros((), jnp.int32),
            healthy=jnp.array(True),
        )

    def advance(
        self, carry: Carry, steps: Int[Array, ""], episodes: Int[Array, ""]
    ) -> tuple[Carry, Int[Array, ""], Float[Array, "T columns"]]:
        """Goes on for `steps` steps (at most `chunk`), or until `episodes` are finished in all.

        Also ends with the step whose loss is not finite. Returns the carry, the number of steps
        taken, and as many rows of `Step`.
        """
        start = carry.agent.steps
        noises = jax.vmap(self.draw, (None, 0))(carry.key, start + jnp.arange(self.chunk))

        def unfinished(loop: _Loop) -> Bool[Array, ""]:
            more = (loop.taken < steps) & (loop.carry.agent.episodes < episodes)
            return more & loop.carry.healthy

        def step(loop: _Loop) -> _Loop:
            carry, record = self._step(loop.carry, jax.tree.map(lambda x: x[loop.taken], noises))
            return _Loop(loop.taken + 1, carry, loop.log.at[loop.taken].set(jnp.stack(record)))

        log = jnp.zeros((self.chunk, len(Step._fields)))
        loop = jax.lax.while_loop(unfinished, step, _Loop(jnp.zeros_like(start), carry, log))
        # The last gradient step may have spoiled parameters that no loss has seen yet.
        params = jax.tree.leaves(loop.carry.agent.params)
        finite = jnp.array([jnp.isfinite(leaf).all() for leaf in params]).all()
        carry = loop.carry._replace(healthy=loop.carry.healthy & finite)
        return carry, loop.taken, loop.log

    def evaluate(self, agent: dqn.State) -> Float[Array, " E"]:
        """Returns of greedy episodes, from start states that are always the same."""

        def act(observations: Float[Array, "E O"]) -> Int[Array, " E"]:
            return self.agent.greedy(agent, observations)

        return native.returns(self.task, act, self.evaluation_keys())

    def evaluation_keys(self) -> Key[Array, " E"]:
        """Of the start states of an evaluation."""
        # A root that no seed has: theirs are below 2^32 and begin with a zero word.
        root = jax.random.wrap_key_data(jnp.array([1, 0], jnp.uint32))
        return jax.random.split(root, self.evaluation_episodes)

    def draw(self, key: PRNGKeyArray, step: Int[Array, ""]) -> "_StepNoise":
        """All that a step leaves to chance, drawn for many steps at once."""
        drawn = noise.draw(self.agent, self.task.spec, key, step)
        return _StepNoise(drawn.act, drawn.replay, self.task.reset(drawn.reset))

    def _step(self, carry: Carry, drawn: "_StepNoise") -> tuple[Carry, Step]:
        observation = self.task.observe(carry.environment)
        action = self.agent.act(carry.agent, observation, drawn.act)
        environment, timestep = self.task.step(carry.environment, action)
        memory = replay.add(carry.replay, _transition(observation, action, timestep))
        agent, metrics = self._learn(carry.agent, memory, drawn.replay)
        ended = timestep.terminated | timestep.truncated
        total = carry.episode_return + timestep.reward
        length = carry.episode_length + 1
        carry = Carry(
            key=carry.key,
            agent=self.agent.advance(agent, observation, ended),
            replay=memory,
            environment=jax.tree.map(
                lambda fresh, present: jnp.where(ended, fresh, present), drawn.reset, environment
            ),
            episode_return=jnp.where(ended, 0, total),
            episode_length=jnp.where(ended, 0, length),
            healthy=jnp.isfinite(metrics.loss),
        )
        return carry, Step(
            ended=ended.astype(jnp.float32),
            episode_return=total,
            episode_length=length.astype(jnp.float32),
            terminated=timestep.terminated.astype(jnp.float32),
            loss=metrics.loss,
            q_mean=metrics.q_mean,
        )

    def _learn(
        self, agent: dqn.State, memory: Replay, bits: UInt32[Array, "G B"]
    ) -> tuple[dqn.State, dqn.Metrics]:
        """The G gradient steps of one environment step; none during warm-up."""

        def learn(agent: dqn.State, bits: UInt32[Array, " B"]) -> tuple[dqn.State, dqn.Metrics]:
            return self.agent.learn(agent, replay.sample(memory, bits))

        def wait(agent: dqn.State) -> tuple[dqn.State, dqn.Metrics]:
            zeros = jnp.zeros(self.agent.gradient_steps)
            return agent, dqn.Metrics(zeros, zeros)

        agent, metrics = jax.lax.cond(
            agent.steps >= self.agent.warmup_steps,
            lambda agent: jax.lax.scan(learn, agent, bits),
            wait,
            agent,
        )
        return agent, jax.tree.map(jnp.mean, metrics)


class _StepNoise(NamedTuple):
    """All random numbers of one step, made into what the step needs."""

    act: dqn.Noise
    replay: UInt32[Array, "G B"]
    reset: Any  # the start state of the next episode, should this step end one


class _Loop(NamedTuple):
    """What goes around in one call of `advance`."""

    taken: Int[Array, ""]
    carry: Carry
    log: Float[Array, "T columns"]


def _transition(
    observation: Float[Array, " O"], action: Int[Array, ""], timestep: TimeStep
) -> Transition:
    return Transition(
        observation=observation,
        action=action,
        reward=timestep.reward,
        discount=1 - timestep.terminated.astype(jnp.float32),
        next_observation=timestep.observation,
    )
