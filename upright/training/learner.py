"""Learning in a loop of your own: on hardware, or in whatever is not Gymnasium's."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PRNGKeyArray, UInt32
from numpy.typing import ArrayLike, NDArray

from upright import tensors
from upright.agents import dqn
from upright.agents.dqn import DQN
from upright.agents.replay import HostReplay, Replay, row_size
from upright.errors import UprightError
from upright.files import write_atomically
from upright.policy import Policy
from upright.spec import Spec
from upright.training import engine, noise
from upright.training.config import agent_from_dict
from upright.training.seeds import check_seeds

FORMAT, VERSION = "upright-learner", 1
_LARGEST_FILE = 1 << 40  # bytes
_BLOCK = 256  # steps whose random numbers are drawn at once


class Learned(NamedTuple):
    """What one call of `Learner.learn` did; means over its gradient steps."""

    loss: float
    q_mean: float


class Learner:
    """An agent that learns from what your loop tells it.

    In each control cycle: `act`, carry the action out, `observe` what came of it. And `learn`
    whenever there is time, say in the pause before the next cycle. After the end of an episode the
    next `act` begins a new one. One `learn` after each `observe` is what `upright train` does.

        learner = upright.Learner(spec, upright.DQN(), seed=0)
        action = learner.act(observation)
        learner.observe(reward, next_observation, terminated, truncated)
        learner.learn()
    """

    def __init__(self, spec: Spec, agent: DQN | None = None, seed: int = 0):
        """Compiles, which takes some seconds once; then no call waits for it."""
        engine.prepare()
        self.spec = spec
        self.agent = agent or DQN()
        (self.seed,) = check_seeds([seed])
        keys = noise.keys(jax.random.key(self.seed))
        self._run = keys.run
        self._state = self.agent.init(keys.agent, spec)
        self._replay = HostReplay(1, self.agent.replay_size, spec.observation_size)
        self._calls = 0  # of `learn`
        self._acted: tuple[NDArray[np.float32], int] | None = None  # waits for `observe`
        self._observed: tuple[NDArray[np.float32], bool] | None = None  # waits to be counted
        self._programs = _Programs.compile(self.agent, spec, self._state, self._run)
        self._draw()
        self._refresh()

    @property
    def steps(self) -> int:
        """Observed so far."""
        return self._replay.added

    def act(self, observation: ArrayLike) -> int:
        """The next action, an index into `spec.action_values`; explores.

        Raises UprightError if the observation is not [observation_size] finite numbers.
        """
        x = self._checked(observation)
        place = self.steps % _BLOCK
        action = int(self._chance[place]) if self._explore[place] else self._policy.act(x)
        self._acted = x, action
        return action

    def observe(
        self,
        reward: float,
        next_observation: ArrayLike,
        terminated: bool,
        truncated: bool = False,
    ) -> None:
        """What came of the last action.

        `terminated`: the task ended, there is nothing after it; `truncated`: only this episode was
        cut off, by a time limit or by you. Raises UprightError, and notes nothing, if the numbers
        are not finite, the shape is wrong, or there was no action.
        """
        if self._acted is None:
            raise UprightError("observe without an action before it; call act first")
        x = self._checked(next_observation)
        if not np.isfinite(reward):
            raise UprightError(f"reward is not finite: {reward}")
        self._count()
        before, action = self._acted
        one = np.ones(1, np.float32)
        self._replay.add(
            before[None], np.array([action]), reward * one, (1 - bool(terminated)) * one, x[None]
        )
        self._acted, self._observed = None, (before, bool(terminated or truncated))
        if self.steps % _BLOCK == 0:
            self._draw()

    def learn(self) -> Learned | None:
        """The gradient steps of one step, `agent.gradient_steps`; None during the warm-up.

        Raises UprightError before anything was observed, and if the loss is not finite.
        """
        if not self.steps:
            raise UprightError("nothing to learn from yet; call act and observe first")
        bits = np.asarray(self._programs.bits(self._run, np.int32(self._calls)))
        self._calls += 1
        learned = None
        if self.steps > self.agent.warmup_steps:
            rows = self._replay.sample(bits[None])[0]
            self._state, metrics = self._programs.learn(self._state, rows)
            learned = Learned(*map(float, metrics))
            if not np.isfinite(learned.loss):
                raise UprightError(
                    f"diverged: the loss is {learned.loss}; smaller rewards or learning_rate, and"
                    " go on from the last file that was saved"
                )
        self._count()
        self._refresh()
        return learned

    def policy(self) -> Policy:
        """The greedy policy as it is now."""
        training = {"agent": "DQN", "seed": self.seed, "step": self.steps}
        return self.agent.to_policy(self._state, self.spec, training)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Everything, replay included, into one file; whole or not at all."""
        named = tensors.flatten(self._state, "state") | tensors.flatten(
            self._replay.stored(0), "replay"
        )
        if self._acted:
            named["acted"] = np.append(self._acted[0], np.float32(self._acted[1]))
        if self._observed:
            named["observed"] = np.append(self._observed[0], np.float32(self._observed[1]))
        header = {
            "spec": self.spec.to_dict(),
            "agent": asdict(self.agent),
            "seed": self.seed,
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
        row = row_size(spec.observation_size)
        empty = Replay(jnp.zeros((0, row)), jnp.zeros((), jnp.int32))
        learner._state = jax.tree.map(jnp.array, tensors.unflatten(learner._state, named, "state"))
        learner._replay.restore(0, tensors.unflatten(empty, named, "replay"))
        learner._calls = int(header["calls"])
        if "acted" in named:
            *before, action = named["acted"]
            learner._acted = learner._checked(before), int(action)
        if "observed" in named:
            *before, ended = named["observed"]
            learner._observed = learner._checked(before), bool(ended)
        learner._draw()
        learner._refresh()
        return learner

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

    def _count(self) -> None:
        """The last step is counted once, after what was learned in it."""
        if self._observed:
            before, ended = self._observed
            self._state = self._programs.advance(self._state, before, np.bool_(ended))
            self._observed = None

    def _refresh(self) -> None:
        """What `act` needs, ahead of time, since `act` must be quick."""
        self._policy = self.policy()

    def _draw(self) -> None:
        """The random numbers of the next block of steps."""
        start = np.int32(self.steps - self.steps % _BLOCK)
        explore, chance = self._programs.draw(self._run, start)
        self._explore, self._chance = np.asarray(explore).tolist(), np.asarray(chance).tolist()


class _Programs(NamedTuple):
    """Compiled when the learner is made, not in the middle of the loop."""

    draw: Callable[[Any, np.int32], tuple[Any, Any]]
    bits: Callable[[Any, np.int32], Any]
    learn: Callable[[dqn.State, Any], tuple[dqn.State, dqn.Metrics]]
    advance: Callable[[dqn.State, Any, np.bool_], dqn.State]

    @staticmethod
    def compile(agent: DQN, spec: Spec, state: dqn.State, run: PRNGKeyArray) -> "_Programs":
        def draw(
            run: PRNGKeyArray, start: Int[Array, ""]
        ) -> tuple[Bool[Array, " T"], Int[Array, " T"]]:
            steps = start + jnp.arange(_BLOCK)
            acts = jax.vmap(lambda step: noise.draw(agent, spec, run, step).act)(steps)
            return acts.explore < jax.vmap(agent.epsilon)(steps), acts.action

        def bits(run: PRNGKeyArray, call: Int[Array, ""]) -> UInt32[Array, "G B"]:
            return noise.draw(agent, spec, run, call).replay

        size = spec.observation_size
        count = jax.ShapeDtypeStruct((), jnp.int32)
        rows = jax.ShapeDtypeStruct(
            (agent.gradient_steps, agent.batch_size, row_size(size)), jnp.float32
        )
        observation = jax.ShapeDtypeStruct((size,), jnp.float32)
        ended = jax.ShapeDtypeStruct((), jnp.bool_)
        lowered = [
            jax.jit(draw).lower(run, count),
            jax.jit(bits).lower(run, count),
            jax.jit(agent.learn_all, donate_argnums=0).lower(state, rows),
            jax.jit(agent.advance, donate_argnums=0).lower(state, observation, ended),
        ]
        with ThreadPoolExecutor() as pool:
            options = engine.compiler_options()
            return _Programs(*pool.map(lambda program: program.compile(options), lowered))
