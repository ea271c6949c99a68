"""Learning in a loop of your own: on hardware, or in whatever is not Gymnasium's."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from numpy.typing import ArrayLike, NDArray

from upright import tensors
from upright.agents import agent_from_dict, agent_to_dict
from upright.agents.agent import Agent
from upright.agents.dqn import DQN
from upright.errors import UprightError
from upright.files import write_atomically
from upright.memory.memory import Memory
from upright.memory.transition import Row, Transition
from upright.policy import Policy, Provenance
from upright.runners import jit, randomness
from upright.seeds import check_seeds
from upright.spec import Choice, Spec
from upright.tensors import flatten, unflatten

FORMAT, VERSION = "upright-learner", 2
_LARGEST_FILE = 1 << 40  # bytes
_BLOCK = 256  # steps whose random numbers are drawn at once


class Learner:
    """An agent that learns from what your loop tells it.

    In each control cycle: `act`, carry the action out, `observe` what came of it. And `learn`
    whenever there is time, say in the pause before the next cycle. After the end of an episode the
    next `act` begins a new one. One `learn` after each `observe` is what `upright train` does.

        learner = upright.Learner(spec, upright.DQN(), seed=0)
        force = learner.act(observation)
        learner.observe(reward, next_observation, terminated, truncated)
        learner.learn()
    """

    def __init__(self, spec: Spec, agent: Agent | None = None, seed: int = 0):
        """Compiles, which takes some seconds once; then no call waits for it.

        Raises UprightError if the agent cannot learn a task with such observations or actions.
        """
        jit.prepare()
        self.spec = spec
        self.agent = agent or DQN()
        self.agent.fits(spec)
        if self.agent.environments != 1:
            raise UprightError(
                f"environments is {self.agent.environments}; your loop is one environment, so it"
                " must be 1"
            )
        (self.seed,) = check_seeds([seed])
        keys = randomness.keys(jax.random.key(self.seed))
        self._run = keys.run
        self._state = self.agent.init(keys.agent, spec)
        self._like = randomness.transition_like(self.agent, spec)
        self._row = Row.of(self._like)
        self._rules: Memory = self.agent.memory(self._like)
        self._memory = self._rules.on_host(1)
        self.steps = 0  # observed so far
        self._calls = 0  # of `learn`
        self._acted: _Acted | None = None  # waits for `observe`
        self._observed: NDArray[np.float32] | None = None  # [1 row], waits to be counted
        self._block: Any = None  # random numbers of some steps
        self._programs = self._compile()
        self._draw()
        self._refresh()

    def act(self, observation: ArrayLike) -> float | NDArray[np.float32]:
        """The next action in its physical unit, to be carried out for a cycle; explores.

        `observation`: [observation_size], in the units of the spec. Gives, of a Choice, one of its
        values, a float; of Continuous, a vector [U] within the bounds.

        Raises UprightError if the observation is not of that size, or not finite.
        """
        x = self._checked(observation)
        outputs = self._policy.network(x)[None]
        action, extras = self.agent.select(outputs, self._noise, np.float32(self.steps))
        self._acted = _Acted(x[None], np.asarray(action, self._like.action.dtype), extras)
        if isinstance(self.spec.action, Choice):
            return self.spec.action.values[int(self._acted.action[0])]
        return self.spec.action.physical(self._acted.action[0])

    def observe(
        self,
        reward: float,
        next_observation: ArrayLike,
        terminated: bool,
        truncated: bool = False,
        action: ArrayLike | None = None,
    ) -> None:
        """What came of the last action.

        `terminated`: the task ended, there is nothing after it; `truncated`: only this episode was
        cut off, by a time limit or by you. `action`: what was really carried out, in its physical
        unit, where that is another than `act` said.

        Raises UprightError, and notes nothing, if a number is not finite, a shape is wrong, the
        action is outside of its bounds, or there was none.
        """
        acted = self._acted
        if acted is None:
            raise UprightError("observe without an action before it; call act first")
        x = self._checked(next_observation)
        if not np.isfinite(reward):
            raise UprightError(f"reward is not finite: {reward}")
        if action is not None:
            acted = self._with_carried_out(acted, action)
        self._count()
        one = np.ones(1, np.float32)
        transition = Transition(
            observation=acted.observation,
            action=acted.action,
            reward=reward * one,
            discount=(1 - bool(terminated)) * one,
            next_observation=x[None],
            ended=np.array([bool(terminated or truncated)]),
            extras=acted.extras,
        )
        row = self._row.pack(transition)
        self._memory.add(row[None])
        self._observed = row
        self._acted = None
        self.steps += 1
        self._draw()

    def learn(self) -> Any:
        """What the agent learns in one step; its metrics as numbers, or None if it is not yet due.

        Raises UprightError before anything was observed, and if a metric is not finite.
        """
        if not self.steps:
            raise UprightError("nothing to learn from yet; call act and observe first")
        calls, self._calls = self._calls, self._calls + 1
        metrics = None
        if self._rules.due(self.steps):
            drawn = self._programs.randomness(self._run, np.int32(calls))
            one_tick = jax.tree.map(lambda x: np.asarray(x)[None, None], drawn.memory)
            sampled = jax.tree.map(lambda x: x[0], self._memory.sample(one_tick, 0))
            self._state, learned = self._programs.learn(self._state, sampled, drawn.agent)
            metrics = type(learned)(*map(float, learned))
            if not np.isfinite(metrics).all():
                raise UprightError(
                    f"diverged: {metrics}; smaller rewards or learning_rate, and go on from the"
                    " last file that was saved"
                )
        self._count()
        self._refresh()
        return metrics

    def policy(self) -> Policy:
        """The greedy policy as it is now."""
        policy = self.agent.to_policy(self._state, self.spec)
        origin = Provenance(agent=type(self.agent).__name__, seed=self.seed, step=self.steps)
        return replace(policy, provenance=origin)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Everything, the memory included, into one file; whole or not at all."""
        named = flatten(self._state, "state") | flatten(self._memory.stored(0), "memory")
        if self._acted:
            named |= flatten(self._acted, "acted")
        if self._observed is not None:
            named["observed"] = self._observed
        header = {
            "spec": self.spec.to_dict(),
            "agent": agent_to_dict(self.agent),
            "seed": self.seed,
            "steps": self.steps,
            "calls": self._calls,
        }
        write_atomically(Path(path), tensors.encode(named, FORMAT, VERSION, header))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Learner":
        """Goes on as if it had never been away.

        Raises UprightError if the file is missing, damaged or something else.
        """
        content = tensors.read(Path(path), _LARGEST_FILE)
        try:
            named, header = tensors.decode(content, FORMAT, VERSION)
            return cls._restored(named, header)
        except UprightError as error:
            raise UprightError(f"{path}: {error}") from None
        except (KeyError, TypeError, ValueError):
            raise UprightError(f"{path}: damaged: its numbers do not fit its settings") from None

    @classmethod
    def _restored(cls, named: dict[str, NDArray[Any]], header: dict[str, Any]) -> "Learner":
        agent, spec = agent_from_dict(header["agent"]), Spec.from_dict(header["spec"])
        learner = cls(spec, agent, int(header["seed"]))
        like = learner._like
        learner._state = jax.tree.map(jnp.array, unflatten(learner._state, named, "state"))
        stored = unflatten(learner._memory.stored(0), named, "memory")
        learner._memory.restore(0, stored)
        learner.steps, learner._calls = int(header["steps"]), int(header["calls"])
        if any(name.startswith("acted") for name in named):
            template = _Acted(like.observation, like.action, like.extras)
            learner._acted = unflatten(template, named, "acted")
        if "observed" in named:
            learner._observed = named["observed"].reshape(1, learner._row.width)
        learner._block = None
        learner._draw()
        learner._refresh()
        return learner

    def _compile(self) -> "_Programs":
        agent, spec, memory, row = self.agent, self.spec, self._rules, self._row

        def drawn(run: PRNGKeyArray, step: Int[Array, ""]) -> randomness.Randomness:
            return randomness.draw(agent, memory, spec, run, step)._replace(reset=())

        def block(run: PRNGKeyArray, start: Int[Array, ""]) -> Any:
            return jax.vmap(lambda step: drawn(run, step).agent)(start + jnp.arange(_BLOCK))

        def learn(state: Any, sampled: Any, noise: Any) -> Any:
            return agent.learn(state, memory.unpack(sampled), noise)

        def count(state: Any, observed: Any) -> Any:
            return agent.count(state, row.unpack(observed))

        number = jax.ShapeDtypeStruct((), jnp.int32)
        drawn_like = jax.eval_shape(drawn, self._run, number)
        sampled_like = jax.eval_shape(memory.sample, jax.eval_shape(memory.init), drawn_like.memory)
        observed_like = jax.ShapeDtypeStruct((1, row.width), jnp.float32)
        lowered = [
            jax.jit(block).lower(self._run, number),
            jax.jit(drawn).lower(self._run, number),
            jax.jit(learn, donate_argnums=0).lower(self._state, sampled_like, drawn_like.agent),
            jax.jit(count, donate_argnums=0).lower(self._state, observed_like),
        ]
        return _Programs(*jit.compile_all(lowered))

    def _checked(self, observation: ArrayLike) -> NDArray[np.float32]:
        # A copy: the loop may read its sensors into the same array again.
        x = np.array(observation, np.float32)
        if x.shape != (self.spec.observation_size,):
            raise UprightError(
                f"observation of shape {x.shape}: expected ({self.spec.observation_size},)"
            )
        if not np.isfinite(x).all():
            raise UprightError(f"observation is not finite: {x.tolist()}")
        return x

    def _with_carried_out(self, acted: "_Acted", action: ArrayLike) -> "_Acted":
        """With what was done in its place; as it was where the plant got what `act` said."""
        carried_out = self._carried_out(action)
        physical = self.spec.action.physical
        if np.array_equal(physical(carried_out), physical(acted.action)):
            return acted
        if jax.tree.leaves(acted.extras):
            raise UprightError(
                f"action is {action}, but {type(self.agent).__name__} learns from the actions that"
                " it chose itself; leave action out"
            )
        return acted._replace(action=carried_out)

    def _carried_out(self, action: ArrayLike) -> NDArray[Any]:
        """As the memory keeps it: an index [1], or a vector [1 U]."""
        # In single precision, as `act` gives it: a bound such as 0.1 is another number there.
        value = np.atleast_1d(np.array(action, np.float32))
        if isinstance(self.spec.action, Choice):
            values = np.array(self.spec.action.values, np.float32)
            if value.shape != (1,) or not np.isin(value, values).all():
                known = list(self.spec.action.values)
                raise UprightError(f"action is {action}; it must be one of {known}")
            return np.flatnonzero(values == value)[:1].astype(self._like.action.dtype)
        channels = self.spec.action.channels
        if value.shape != (len(channels),):
            raise UprightError(f"action of shape {value.shape}: expected ({len(channels)},)")
        for number, channel in zip(value.tolist(), channels, strict=True):
            if not np.float32(channel.minimum) <= number <= np.float32(channel.maximum):
                raise UprightError(
                    f"action {channel.name!r} is {number:g} {channel.unit}; it must be between"
                    f" {channel.minimum:g} and {channel.maximum:g}"
                )
        return value[None]

    def _count(self) -> None:
        """The last step is counted once, after what was learned in it."""
        if self._observed is not None:
            self._state = self._programs.count(self._state, self._observed)
            self._observed = None

    def _refresh(self) -> None:
        """What `act` needs, ahead of time, since `act` must be quick."""
        self._policy = self.agent.to_policy(self._state, self.spec)

    def _draw(self) -> None:
        """The random numbers of the next `act`, ahead of time; some at once."""
        place = self.steps % _BLOCK
        if place == 0 or self._block is None:
            block = self._programs.block(self._run, np.int32(self.steps - place))
            self._block = jax.tree.map(np.asarray, block)
        self._noise: Any = jax.tree.map(lambda x: x[place], self._block)


class _Acted(NamedTuple):
    observation: Any  # [1 O]
    action: Any  # [1] or [1 U]
    extras: Any


class _Programs(NamedTuple):
    """Compiled when the learner is made, not in the middle of the loop."""

    block: Callable[..., Any]
    randomness: Callable[..., Any]
    learn: Callable[..., Any]
    count: Callable[..., Any]
