"""Learning in a loop of your own: on hardware, or in whatever is not Gymnasium's."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from numpy.typing import ArrayLike, NDArray

from upright import masks, tensors
from upright.agents import agent_to_dict
from upright.agents.agent import Agent, check_agent
from upright.agents.dqn import DQN
from upright.calling import check_kind
from upright.errors import UprightError
from upright.files import write_atomically
from upright.memory.memory import Memory
from upright.memory.transition import Row, Transition
from upright.online import saved
from upright.online.saved import Acted, Saved
from upright.parameters import in_single
from upright.policy import Policy, Provenance
from upright.runners import jit, randomness
from upright.runners.fit import check_fit
from upright.seeds import check_seeds
from upright.spec import Choice, Spec
from upright.tensors import flatten

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

    Or `learn` in a thread of its own, beside a loop that has no time to lose: `act` and `observe`
    are the loop's, both from one thread, and wait for no learning step. `act` uses the weights of
    the last one that is complete, never a mixture. `learn`, `policy` and `save` may be called from
    any thread; they wait for each other. While `save` copies a large memory, `observe` waits.

        def study():  # once something was observed; threading.Thread(target=study).start()
            while running:
                if learner.learn() is None:  # not due yet
                    time.sleep(0.001)
    """

    def __init__(self, spec: Spec, agent: Agent | None = None, seed: int = 0):
        """Compiles, which takes some seconds once; then no call waits for it.

        Raises UprightError if the agent cannot learn a task with such observations or actions.
        """
        check_kind("spec", spec, Spec, "an upright.Spec: names, units and bounds of your loop")
        if agent is not None:
            check_agent(agent)
        jit.prepare()
        self.spec = spec
        self.agent = agent or DQN()
        self.agent.fits(spec)
        if self.agent.environments != 1:
            raise UprightError(
                f"environments is {self.agent.environments}; your loop is one environment, so it"
                " must be 1"
            )
        check_fit(self.agent, spec, ticks=_BLOCK)
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
        self._acted: Acted | None = None  # waits for `observe`
        self._observed: list[NDArray[np.float32]] = []  # each [1 row], wait to be counted
        self._ripe: Any = None  # to be learned from once, of a memory that forgets
        self._learning = _Turns()  # of the agent's state; held for a whole learning step
        self._telling = threading.Lock()  # of what `observe` writes; held for microseconds
        self._block: Any = None  # random numbers of some steps
        self._programs = self._compile()
        self._draw()
        self._refresh()

    def __repr__(self) -> str:
        agent = type(self.agent).__name__
        return f"Learner({self.spec.task}: {agent}, seed {self.seed}, step {self.steps})"

    def act(
        self, observation: ArrayLike, action_mask: ArrayLike | None = None
    ) -> float | NDArray[np.float32]:
        """The next action in its physical unit, to be carried out for a cycle; explores.

        `observation`: [observation_size], in the units of the spec. Gives, of a Choice, one of its
        values, a float; of Continuous, a vector [U] within the bounds. `action_mask`: where
        `spec.masked`, 1 for each action that is allowed now, 0 for the others, [action_size].

        Raises UprightError if the observation is not of that size, not finite, or so large that
        what the network says of it is not; and for a mask that is missing, wrong, or not in the
        spec.
        """
        x = self._checked(observation)
        mask = masks.expected(self.spec, action_mask, "action_mask")
        with np.errstate(over="ignore", invalid="ignore"):
            outputs = self._policy.network(x)[None]
        if not np.isfinite(outputs).all():
            raise UprightError(f"observation is too large for the network: {x.tolist()}")
        action, extras = self.agent.select(outputs, self._noise, np.float32(self.steps), mask)
        self._acted = Acted(x[None], np.asarray(action, self._like.action.dtype), extras)
        if isinstance(self.spec.action, Choice):
            return self.spec.action.values[int(self._acted.action[0])]
        return self.spec.action.physical(self._acted.action[0])

    def observe(
        self,
        reward: SupportsFloat | ArrayLike,
        next_observation: ArrayLike,
        terminated: bool,
        truncated: bool = False,
        action: ArrayLike | None = None,
        next_action_mask: ArrayLike | None = None,
    ) -> None:
        """What came of the last action.

        `terminated`: the task ended, there is nothing after it; `truncated`: only this episode was
        cut off, by a time limit or by you. `action`: what was really carried out, in its physical
        unit, where that is another than `act` said. `next_action_mask`: where `spec.masked`, the
        actions that are allowed at `next_observation`; not needed where the task terminated.

        Raises UprightError, and notes nothing, if a number is not finite, a shape is wrong, the
        action is outside of its bounds, or there was none, or a mask is missing or wrong.
        """
        acted = self._acted
        if acted is None:
            raise UprightError("observe without an action before it; call act first")
        x = self._checked(next_observation)
        told = in_single(reward, "reward")
        if told.size != 1:
            raise UprightError(f"reward of shape {told.shape}: expected one number")
        if terminated and self.spec.masked:
            next_action_mask = np.ones(self.spec.action_size, np.bool_)
        next_mask = masks.expected(self.spec, next_action_mask, "next_action_mask")
        if action is not None:
            acted = self._with_carried_out(acted, action)
        one = np.ones(1, np.float32)
        transition = Transition(
            observation=acted.observation,
            action=acted.action,
            reward=told.reshape(1),
            discount=(1 - bool(terminated)) * one,
            next_observation=x[None],
            ended=np.array([bool(terminated or truncated)]),
            extras=acted.extras,
            next_mask=next_mask,
        )
        row = self._row.pack(transition)
        if self._learning.enter_at_once():  # else it is left to the learning under way
            try:
                self._count()
            finally:
                self._learning.leave()
        with self._telling:
            self._memory.add(row[None])
            self._observed.append(row)
            self._acted = None
            self.steps += 1
            if self._rules.forgets and self._rules.due(self.steps):
                self._ripe = self._sample(())
        self._draw()

    def learn(self) -> Any:
        """What the agent learns in one step; its metrics as numbers, or None if it is not yet due.

        Raises UprightError before anything was observed, and if a metric is not finite.
        """
        if not self.steps:
            raise UprightError("nothing to learn from yet; call act and observe first")
        with self._learning:
            self._count(all_but=1)
            calls, self._calls = self._calls, self._calls + 1
            metrics = None
            if self._due():
                drawn = self._programs.randomness(self._run, np.int32(calls))
                with self._telling:
                    sampled = self._taken(drawn.memory)
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
        with self._learning:
            policy, step = self.agent.to_policy(self._state, self.spec), self.steps
        origin = Provenance(agent=type(self.agent).__name__, seed=self.seed, step=step)
        return replace(policy, provenance=origin)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Everything, the memory included, into one file; whole or not at all."""
        header = {
            "spec": self.spec.to_dict(),
            "agent": agent_to_dict(self.agent),
            "seed": self.seed,
        }
        with self._learning:
            with self._telling:
                self._count(all_but=1)
                named = flatten(self._memory.stored(0), "memory")
                if self._acted:
                    named |= flatten(self._acted, "acted")
                if self._observed:
                    named["observed"] = self._observed[0]
                if self._ripe is not None:
                    named |= flatten(self._ripe, "ripe")
                header |= {"steps": self.steps, "calls": self._calls}
            named |= flatten(self._state, "state")
            content = tensors.encode(named, saved.FORMAT, saved.VERSION, header)
        write_atomically(Path(path), content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Learner":
        """Goes on as if it had never been away.

        Raises UprightError if the file is missing, damaged or something else.
        """
        content = tensors.read(Path(path), _LARGEST_FILE)
        try:
            return cls._restored(saved.decode(content))
        except UprightError as error:
            raise UprightError(f"{path}: {error}") from None

    @classmethod
    def _restored(cls, found: Saved) -> "Learner":
        learner = cls(found.spec, found.agent, found.seed)
        learner._state = jax.tree.map(jnp.array, found.state)
        learner._memory.restore(0, found.memory)
        learner.steps, learner._calls = found.steps, found.calls
        learner._acted, learner._ripe = found.acted, found.ripe
        learner._observed = [] if found.observed is None else [found.observed]
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
        x = in_single(observation, "observation")
        if x.shape != (self.spec.observation_size,):
            raise UprightError(
                f"observation of shape {x.shape}: expected ({self.spec.observation_size},)"
            )
        return x

    def _with_carried_out(self, acted: Acted, action: ArrayLike) -> Acted:
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
        value = np.atleast_1d(in_single(action, "action"))
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

    def _count(self, all_but: int = 0) -> None:
        """Each step is counted once, after what was learned in it: the last may have to wait."""
        for _ in range(len(self._observed) - all_but):
            self._state = self._programs.count(self._state, self._observed.pop(0))

    def _due(self) -> bool:
        return self._ripe is not None if self._rules.forgets else bool(self._rules.due(self.steps))

    def _taken(self, drawn: Any) -> Any:
        """What to learn from; what is ripe only once."""
        if not self._rules.forgets:
            return self._sample(drawn)
        sampled, self._ripe = self._ripe, None
        return sampled

    def _sample(self, drawn: Any) -> Any:
        one_tick = jax.tree.map(lambda x: np.asarray(x)[None, None], drawn)
        # A copy: `observe` goes on writing while it is learned from.
        return jax.tree.map(lambda x: np.array(x[0]), self._memory.sample(one_tick, 0))

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


class _Turns:
    """A lock that goes to who waits for it; a plain one would go to a loop that takes it again."""

    def __init__(self) -> None:
        self._held, self._next = threading.Lock(), threading.Lock()

    def __enter__(self) -> None:
        with self._next:
            self._held.acquire()

    def __exit__(self, *_: object) -> None:
        self.leave()

    def enter_at_once(self) -> bool:
        """False, without waiting, if somebody is in."""
        return self._held.acquire(blocking=False)

    def leave(self) -> None:
        self._held.release()


class _Programs(NamedTuple):
    """Compiled when the learner is made, not in the middle of the loop."""

    block: Callable[..., Any]
    randomness: Callable[..., Any]
    learn: Callable[..., Any]
    count: Callable[..., Any]
