"""The stepwise driver: any Gymnasium environment, with one compiled call for each of its steps.

The call learns from the last step and chooses the next action, for all seeds of a crew. The
replays stay on the host, and so does all that is random: a call has few and small arguments.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32
from numpy.typing import NDArray

from upright.agents import dqn
from upright.agents.dqn import DQN
from upright.agents.replay import HostReplay, Replay, row_size
from upright.errors import UprightError
from upright.evaluation.episodes import Episodes, Stopped
from upright.policy import Provenance
from upright.spec import Spec
from upright.tasks.bridge import Flat
from upright.training import noise
from upright.training.engine import compiler_options
from upright.training.fleet import Crew, Order, Pulse, Result, States, Step, cores
from upright.training.lanes import Lanes
from upright.training.packing import Packed, Packing


class Progress(NamedTuple):
    """Everything about one seed at one moment, in NumPy."""

    key: UInt32[np.ndarray, "2"]  # of the run
    agent: dqn.State
    replay: Replay
    observation: Float[np.ndarray, " O"]  # the present one
    action: Int[np.ndarray, ""]  # chosen, not yet carried out
    resets: Int[np.ndarray, ""]  # episodes begun
    episode_return: Float[np.ndarray, ""]  # of the present episode, so far
    actions: Int[np.ndarray, " L"]  # of the present episode


@dataclass(frozen=True)
class Stepwise:
    """Brings agents and Gymnasium environments together."""

    spec: Spec
    agent: DQN
    chunk: int  # most steps in one order
    make_env: Callable[[int], Flat]  # of a seed
    evaluation: Callable[[], Episodes]
    inline: bool = False  # one crew, in the calling thread: as windows want it

    def crews(self, seeds: Sequence[int], states: States | None, pulse: Pulse) -> list[Crew]:
        """One for each core; more if some seeds are ahead of others."""
        size = len(seeds) if self.inline else -(-len(seeds) // cores())
        groups = [
            members[first : first + size]
            for _, same in groupby(seeds, lambda s: int(states[s].agent.steps) if states else 0)
            for members in [tuple(same)]
            for first in range(0, len(members), size)
        ]
        programs = {n: _Programs.compile(self, n) for n in {len(group) for group in groups}}
        return [StepwiseCrew(self, programs[len(group)], group, states, pulse) for group in groups]

    def template(self) -> Progress:
        size, count = self.spec.observation_size, np.zeros((), np.int32)
        shapes = jax.eval_shape(lambda: self.agent.init(jax.random.key(0), self.spec))
        return Progress(
            key=np.zeros(2, np.uint32),
            agent=jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes),
            replay=Replay(jnp.zeros((0, row_size(size))), jnp.zeros((), jnp.int32)),
            observation=np.zeros(size, np.float32),
            action=count,
            resets=count,
            episode_return=np.zeros(()),
            actions=np.zeros(0, np.int32),
        )


class _Frame(NamedTuple):
    """What a call is told of one step; one row of numbers, since every argument costs time."""

    before: Float[Array, " O"]  # the observation that was acted on
    present: Float[Array, " O"]  # the one to act on: of a new episode, if one ended
    ended: Float[Array, ""]
    explore: Float[Array, ""]  # noise of the action to choose
    action: Float[Array, ""]

    @staticmethod
    def unpack(row: Float[Array, " frame"]) -> "_Frame":
        size = (len(row) - 3) // 2
        return _Frame(row[:size], row[size : 2 * size], *jnp.unstack(row[2 * size :]))


@dataclass(frozen=True)
class _Programs:
    """Compiled for a number of seeds S."""

    packing: Packing  # of the agent's state; packed, it has a leading axis S
    init: Callable[[NDArray[np.uint32]], tuple[Packed, Any]]
    draw: Callable[..., Any]  # key, step [S, 1] -> chunk of replay bits, next explore and action
    act: Callable[[Packed, Any, NDArray[np.float32]], Any]
    wait: Callable[[Packed, NDArray[np.float32]], tuple[Packed, Any]]
    learn: Callable[[Packed, NDArray[np.float32], NDArray[np.float32]], tuple[Packed, Any]]

    @staticmethod
    def compile(driver: Stepwise, seeds: int) -> "_Programs":
        agent, spec = driver.agent, driver.spec
        key = jax.random.key(0)
        packing = Packing(jax.eval_shape(lambda: agent.init(key, spec)))

        def init(seed: UInt32[Array, ""]) -> tuple[Packed, UInt32[Array, "2"]]:
            keys = noise.keys(jax.random.key(seed))
            return packing.pack(agent.init(keys.agent, spec)), jax.random.key_data(keys.run)

        def draw(
            key: UInt32[Array, "2"], start: Int[Array, ""]
        ) -> tuple[UInt32[Array, "T G B"], dqn.Noise]:
            run = jax.random.wrap_key_data(key)
            steps = start + jnp.arange(driver.chunk)
            bits = jax.vmap(lambda step: noise.draw(agent, spec, run, step).replay)(steps)
            return bits, jax.vmap(lambda step: noise.draw(agent, spec, run, step + 1).act)(steps)

        def act(
            leaves: Packed, key: UInt32[Array, "2"], observation: Float[Array, " O"]
        ) -> Int[Array, ""]:
            state: dqn.State = packing.unpack(leaves)
            run = jax.random.wrap_key_data(key)
            return agent.act(state, observation, noise.draw(agent, spec, run, state.steps).act)

        def go_on(
            state: dqn.State, metrics: dqn.Metrics, row: Float[Array, " frame"]
        ) -> tuple[Packed, Float[Array, " 3"]]:
            frame = _Frame.unpack(row)
            state = agent.advance(state, frame.before, frame.ended > 0)
            drawn = dqn.Noise(frame.explore, frame.action.astype(jnp.int32))
            action = agent.act(state, frame.present, drawn).astype(jnp.float32)
            return packing.pack(state), jnp.stack([action, metrics.loss, metrics.q_mean])

        def wait(leaves: Packed, row: Float[Array, " frame"]) -> tuple[Packed, Float[Array, " 3"]]:
            zero = jnp.zeros(())
            return go_on(packing.unpack(leaves), dqn.Metrics(zero, zero), row)

        def learn(
            leaves: Packed, row: Float[Array, " frame"], rows: Float[Array, "G B row"]
        ) -> tuple[Packed, Float[Array, " 3"]]:
            return go_on(*agent.learn_all(packing.unpack(leaves), rows), row)

        def shape(*sizes: int) -> Any:
            return jax.ShapeDtypeStruct((seeds, *sizes), jnp.float32)

        some, start = (jax.ShapeDtypeStruct((seeds,), t) for t in (jnp.uint32, jnp.int32))
        init_all = jax.vmap(init)
        leaves, keys = jax.eval_shape(init_all, some)
        size = spec.observation_size
        rows = (agent.gradient_steps, agent.batch_size, row_size(size))
        frame = (2 * size + 3,)
        lowered = [
            jax.jit(init_all).lower(some),
            jax.jit(jax.vmap(draw)).lower(keys, start),
            jax.jit(_over(act)).lower(leaves, keys, shape(size)),
            jax.jit(_over(wait), donate_argnums=0).lower(leaves, shape(*frame)),
            jax.jit(_over(learn), donate_argnums=0).lower(leaves, shape(*frame), shape(*rows)),
        ]
        with ThreadPoolExecutor() as pool:
            compiled = pool.map(lambda program: program.compile(compiler_options()), lowered)
            return _Programs(packing, *compiled)


def _over(function: Callable[..., Any]) -> Callable[..., Any]:
    """One seed after the other in one program: as each alone, bit for bit, unlike vmap."""
    return lambda *arguments: jax.lax.map(lambda one: function(*one), arguments)


class StepwiseCrew:
    """Some seeds that are all at the same step."""

    def __init__(
        self,
        driver: Stepwise,
        programs: _Programs,
        seeds: tuple[int, ...],
        states: States | None,
        pulse: Pulse,
    ):
        self.seeds = seeds
        self.strays: list[int] = []  # whose environment did not do the same again
        self._driver = driver
        self._programs = programs
        self._pulse = pulse
        self._lanes = Lanes([lambda s=s: driver.make_env(s) for s in seeds], seeds)
        self._evaluation = driver.evaluation()
        self._replay = HostReplay(
            len(seeds), driver.agent.replay_size, driver.spec.observation_size
        )
        self._leaves, self._keys = programs.init(np.array(seeds, np.uint32))
        self._actions = np.zeros(len(seeds), np.int32)
        self._steps = 0
        self._episodes = np.zeros(len(seeds), np.int32)
        self._going = np.ones(len(seeds), np.bool_)
        self._ended: dict[int, Progress] = {}  # by lane: those that go no further
        if states is None:
            self._lanes.begin(np.ones(len(seeds), np.bool_))
            self._choose(np.ones(len(seeds), np.bool_))
        else:
            self._restore([states[seed] for seed in seeds])
        for lane in self._lanes.errors:
            self._end(lane)

    def work(self, orders: Mapping[int, Order]) -> list[Result]:
        # All are at the same step: whoever needs none first lets the others wait.
        steps = min(order.steps for order in orders.values())
        episodes = max(order.episodes for order in orders.values())
        for lane, seed in enumerate(self.seeds):
            if steps and seed not in orders:
                self._end(lane)
        log = np.zeros((steps, len(self.seeds), len(Step._fields)), np.float32)
        taken = np.zeros(len(self.seeds), np.int32)
        noises = self._draw() if steps else ()
        stop = self._pulse(0)
        for step, row in enumerate(log):
            if stop or not self._going.any():
                break
            self._step(Step(*row.T), *(drawn[:, step] for drawn in noises))
            taken += self._going
            stop = self._pulse(int(self._going.sum()))
            if row[:, 0].any() or not np.isfinite(row).all():
                over = (self._episodes >= episodes) | ~np.isfinite(row).all(axis=1)
                over[list(self._lanes.errors)] = True
                for lane in np.flatnonzero(over & self._going).tolist():
                    self._end(lane)
        return [
            self._result(lane, log[: taken[lane], lane], orders[seed])
            for lane, seed in enumerate(self.seeds)
            if seed in orders
        ]

    def states(self) -> dict[int, Progress]:
        return {seed: self._progress(lane) for lane, seed in enumerate(self.seeds)}

    def close(self) -> None:
        self._lanes.close()
        self._evaluation.close()

    def _step(
        self,
        record: Step,
        bits: UInt32[np.ndarray, "S G B"],
        explore: Float[np.ndarray, " S"],
        chance: Int[np.ndarray, " S"],
    ) -> None:
        """One step of all lanes, recorded; those that have ended compute into the blue."""
        before = self._lanes.observations
        after, rewards, terminated, truncated, failed = self._lanes.step(self._actions)
        for lane in failed:
            self._end(lane)
        self._replay.add(before, self._actions, rewards, 1 - terminated, after)
        ended = terminated | truncated
        record.ended[:], record.terminated[:] = ended, terminated
        record.episode_return[:] = self._lanes.returns
        record.episode_length[:] = self._lanes.lengths
        if ended.any():
            self._lanes.begin(ended)
        noise = np.stack([ended, explore, chance], axis=-1, dtype=np.float32, casting="unsafe")
        frame = np.concatenate([before, self._lanes.observations, noise], axis=-1)
        if self._steps >= self._driver.agent.warmup_steps:
            rows = self._replay.sample(bits)
            self._leaves, out = self._programs.learn(self._leaves, frame, rows)
        else:
            self._leaves, out = self._programs.wait(self._leaves, frame)
        actions, record.loss[:], record.q_mean[:] = np.asarray(out).T
        self._actions = actions.astype(np.int32)
        self._steps += 1
        self._episodes += ended

    def _result(self, lane: int, log: NDArray[np.float32], order: Order) -> Result:
        agent = self._agent(lane)
        error = self._lanes.errors.get(lane)
        if error:
            episode = self._lanes.resets[lane]
            error = f"in step {int(agent.steps) + 1}, episode {episode}, {error}"
        # The last gradient step may have spoiled parameters that no loss has seen yet.
        numbers = (log, *jax.tree.leaves(agent.params))
        healthy = all(np.isfinite(array).all() for array in numbers)
        returns = None
        if order.evaluate and healthy and not error and len(log) == order.steps:
            provenance = Provenance("DQN", self.seeds[lane], int(agent.steps))
            policy = self._driver.agent.to_policy(agent, self._driver.spec, provenance)
            try:
                returns = self._evaluation.run(policy, lambda: self._pulse(0)).returns
            except Stopped:
                pass  # it is made up for after a resume
            except UprightError as failure:
                error = f"while it was evaluated, {failure}"
        if error or not healthy:
            self._end(lane)
        return Result(
            seed=self.seeds[lane],
            log=log,
            healthy=healthy,
            agent=agent,
            returns=returns,
            error=error,
        )

    def _draw(self) -> tuple[NDArray[Any], ...]:
        """For the next chunk: replay bits [S, T, G, B]; of the next action explore and chance."""
        steps = np.full(len(self.seeds), self._steps, np.int32)
        bits, act = self._programs.draw(self._keys, steps)
        return np.asarray(bits), np.asarray(act.explore), np.asarray(act.action)

    def _choose(self, lanes: NDArray[np.bool_]) -> None:
        """The first action of an episode that did not follow from a step."""
        actions = self._programs.act(self._leaves, self._keys, self._lanes.observations)
        self._actions = np.where(lanes, actions, self._actions).astype(np.int32)

    def _end(self, lane: int) -> None:
        """Keeps the state of a lane that goes no further; the others go on."""
        self._ended.setdefault(lane, self._progress(lane))
        self._going[lane] = False
        self._lanes.rest(lane)

    def _agent(self, lane: int) -> dqn.State:
        if lane in self._ended:
            return self._ended[lane].agent
        # Copies, since the packed arrays are donated to the next call.
        return self._programs.packing.unpack([np.array(leaf[lane]) for leaf in self._leaves])

    def _progress(self, lane: int) -> Progress:
        if lane in self._ended:
            return self._ended[lane]
        return Progress(
            key=np.array(self._keys[lane]),
            agent=self._agent(lane),
            replay=self._replay.stored(lane),
            observation=self._lanes.observations[lane].copy(),
            action=np.array(self._actions[lane]),
            resets=np.array(self._lanes.resets[lane]),
            episode_return=np.array(self._lanes.returns[lane]),
            actions=np.array(self._lanes.actions[lane], np.int32),
        )

    def _restore(self, states: Sequence[Progress]) -> None:
        """Goes on from there. The present episodes are played again, since nothing else brings a
        Gymnasium environment back; where that does not lead to the same observation, a new episode
        begins.
        """
        self._keys = jnp.stack([state.key for state in states])
        trees = [self._programs.packing.pack(state.agent) for state in states]
        self._leaves = [jnp.stack(leaves) for leaves in zip(*trees, strict=True)]
        for lane, state in enumerate(states):
            self._replay.restore(lane, state.replay)
        self._steps = int(states[0].agent.steps)
        self._episodes = np.array([state.agent.episodes for state in states], np.int32)
        self._actions = np.array([state.action for state in states], np.int32)
        expected = np.stack([state.observation for state in states])
        again = self._lanes.replay(
            [state.actions.tolist() for state in states],
            [int(state.resets) for state in states],
            self._pulse,
        )
        returns = np.array([state.episode_return for state in states])
        again &= self._lanes.returns == returns
        begun = np.isfinite(expected).all(axis=1)  # the reset itself may have failed
        strays = begun & ~(again & (self._lanes.observations == expected).all(axis=1))
        for lane in self._lanes.errors:  # not even up to there: it is to try again from there
            strays[lane] = False
            self._ended[lane] = states[lane]
        self.strays = [seed for seed, stray in zip(self.seeds, strays, strict=True) if stray]
        if strays.any():
            self._lanes.begin(strays)
        if (strays | ~begun).any():
            self._choose(strays | ~begun)
