"""The hosted runner: any Gymnasium environment, with one compiled call for each tick.

The memories stay on the host, and so does all that is random.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from upright.agents.agent import Agent
from upright.bridge.flat import Flat
from upright.errors import UprightError
from upright.evaluation.episodes import Episodes, Stopped
from upright.policy import Policy
from upright.runners.environments import Environments
from upright.runners.hosted_programs import Frame, Programs, Seed, compile_for
from upright.runners.runner import (
    Cancelled,
    OnProgress,
    SeedGroup,
    Segment,
    SegmentResult,
    States,
    StepLog,
    cores,
)
from upright.spec import Spec


class HostedState(NamedTuple):
    """Everything about one seed at one moment, in NumPy."""

    key: Any  # of the run
    agent: Any
    memory: Any  # as `Memory.stored`
    observation: Any  # [E O] the present ones
    action: Any  # [E] or [E U], chosen, not yet carried out
    extras: Any  # of these actions
    resets: Any  # [E] episodes begun
    episode_return: Any  # [E] of the present episodes, so far
    lengths: Any  # [E] of the present episodes, so far
    history: Any  # the actions of the present episodes, one after the other
    steps: Any  # of all environments
    episodes: Any  # finished
    finite: Any  # no metric is NaN or infinite


@dataclass(frozen=True)
class HostedRunner:
    """Brings agents and Gymnasium environments together."""

    spec: Spec
    agent: Agent
    most_steps: int  # in one segment
    make_env: Callable[[int], Flat]  # of a seed
    evaluation: Callable[[], Episodes]
    inline: bool = False  # one group, in the calling thread: as windows want it

    @cached_property
    def seed(self) -> Seed:
        """What is computed for each seed."""
        return Seed(self.agent, self.spec, self.most_steps // self.agent.environments)

    def start(
        self,
        seeds: Sequence[int],
        states: States,
        on_progress: OnProgress = lambda steps: None,
        cancelled: Cancelled = lambda: False,
    ) -> list[SeedGroup]:
        """A group for each core; more if some seeds are ahead of others."""

        def steps(seed: int) -> int:
            return int(states[seed].steps) if seed in states else -1  # not with those at step 0

        size = len(seeds) if self.inline else -(-len(seeds) // cores())
        sets = [
            members[first : first + size]
            for _, same in groupby(sorted(seeds, key=steps), steps)
            for members in [tuple(same)]
            for first in range(0, len(members), size)
        ]
        programs = compile_for(self.seed, [len(members) for members in sets])
        groups: list[SeedGroup] = []
        try:
            for members in sets:
                group = HostedGroup(self, programs[len(members)], members, on_progress, cancelled)
                groups.append(group)
                group.begin(states)
        except BaseException:
            for group in groups:
                group.close()
            raise
        return groups

    def template(self) -> HostedState:
        """What the state of one seed looks like, see `Runner.template`."""
        each, count = self.agent.environments, np.zeros((), np.int32)

        def zeros(like: Any) -> Any:
            return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)

        seed, like = self.seed, self.seed.like
        shapes = jax.eval_shape(lambda: self.agent.init(jax.random.key(0), self.spec))
        return HostedState(
            key=np.zeros(2, np.uint32),
            agent=zeros(shapes),
            memory=seed.memory.on_host(1).stored(0),
            observation=np.zeros(like.observation.shape, np.float32),
            action=zeros(like.action),
            extras=zeros(like.extras),
            resets=np.zeros(each, np.int32),
            episode_return=np.zeros(each),
            lengths=np.zeros(each, np.int32),
            history=np.zeros((0, *like.action.shape[1:]), like.action.dtype),
            steps=count,
            episodes=count,
            finite=np.zeros((), np.bool_),
        )


class HostedGroup:
    """Some seeds that are all at the same step."""

    def __init__(
        self,
        runner: HostedRunner,
        programs: Programs,
        seeds: tuple[int, ...],
        on_progress: OnProgress,
        cancelled: Cancelled,
    ):
        self.seeds = seeds
        self.irreproducible: list[int] = []
        self._agent = runner.agent
        self._spec = runner.spec
        self._seed = runner.seed
        self._programs = programs
        self._on_progress = on_progress
        self._cancelled = cancelled
        self._envs = Environments(runner.make_env, seeds, runner.agent.environments)
        self._evaluation = runner.evaluation()
        self._rules = runner.seed.memory
        self._memory = self._rules.on_host(len(seeds))
        self._packed, self._keys = programs.init(np.array(seeds, np.uint32))
        like = runner.seed.like
        zeros = [
            np.zeros((len(seeds), *leaf.shape), leaf.dtype)
            for leaf in jax.tree.leaves((like.action, like.extras))
        ]
        self._action, *self._extras = zeros  # [S E ...] chosen, not yet carried out; leaves
        # What a call is told, and views of its parts.
        self._frame = np.zeros((len(seeds), runner.seed.frame.width), np.float32)
        self._parts = Frame(*runner.seed.frame.parts(self._frame))
        self._transition = runner.seed.row.parts(self._parts.transition)
        self._steps = 0
        self._episodes = np.zeros(len(seeds), np.int32)
        self._finite = np.ones(len(seeds), np.bool_)
        self._going = np.ones(len(seeds), np.bool_)
        self._ended: dict[int, HostedState] = {}  # by place: those that go no further

    def begin(self, states: States) -> None:
        """First episodes, or those that were under way."""
        if self.seeds[0] in states:  # then all are: they are at the same step
            self._restore([states[seed] for seed in self.seeds])
        else:
            everything = np.ones((len(self.seeds), self._agent.environments), np.bool_)
            self._envs.begin(everything)
            self._choose(everything)
        for place in self._envs.errors:
            self._end(place)

    def run(self, segments: Mapping[int, Segment]) -> list[SegmentResult]:
        """As `SeedGroup.run`. All are at the same step: whoever needs none lets the others wait."""
        each = self._agent.environments
        ticks = min(segment.steps for segment in segments.values()) // each
        episodes = max(segment.episodes for segment in segments.values())
        for place, seed in enumerate(self.seeds):
            if ticks and seed not in segments:
                self._end(place)
        columns = StepLog.width(each, len(self._agent.Metrics._fields))
        log = np.zeros((ticks, len(self.seeds), columns), np.float32)
        taken = np.zeros(len(self.seeds), np.int32)
        drawn: Any = self._draw() if ticks else ()
        cancelled = self._cancelled()
        going = int(self._going.sum())
        for tick, rows in enumerate(log):
            if cancelled or not going:
                break
            eventful = self._tick(StepLog.unpack(rows, each), tick, *drawn)
            taken += self._going
            self._on_progress((int(self._going.sum()) if eventful else going) * each)
            cancelled = self._cancelled()
            if eventful:
                over = (self._episodes >= episodes) | ~self._finite
                over[list(self._envs.errors)] = True
                for place in np.flatnonzero(over & self._going).tolist():
                    self._end(place)
                going = int(self._going.sum())
        return [
            self._result(place, log[: taken[place], place], segments[seed])
            for place, seed in enumerate(self.seeds)
            if seed in segments
        ]

    def close(self) -> None:
        """Ends its environments."""
        self._envs.close()
        self._evaluation.close()

    def _tick(self, log: StepLog, tick: int, memory: Any, noise: NDArray[np.float32]) -> bool:
        """One tick of all seeds, into the log; those that have ended compute into the blue.

        False where nothing ended and nothing failed, as in most ticks.
        """
        before = self._envs.observations
        after, rewards, terminated, truncated, failed = self._envs.step(self._action)
        for place in failed:
            self._end(place)
        ended = terminated | truncated
        told = (before, self._action, rewards, 1 - terminated, after, ended, *self._extras)
        for part, value in zip(self._transition, told, strict=True):
            part[...] = value
        self._memory.add(self._parts.transition)
        log.ended[:], log.terminated[:] = ended, terminated
        log.episode_return[:] = self._envs.returns
        log.episode_length[:] = self._envs.lengths
        any_ended = bool(ended.any())
        if any_ended:
            self._envs.begin(ended)
            self._episodes += ended.sum(axis=1)
        self._steps += self._agent.environments
        self._parts.present[:] = self._envs.observations
        self._parts.noise[:], self._parts.next_noise[:] = noise[:, tick], noise[:, tick + 1]
        self._parts.steps.view(np.int32)[:] = self._steps
        if self._rules.due(self._steps):
            sampled = self._memory.sample(memory, tick)
            self._packed, answer = self._programs.learn(self._packed, self._frame, sampled)
            log.learned[:] = 1
        else:
            self._packed, answer = self._programs.wait(self._packed, self._frame)
        parts = self._seed.told.parts([np.asarray(answer)])
        self._action, *self._extras, log.metrics[:] = parts
        all_finite = bool(np.isfinite(log.metrics).all())
        if not all_finite:
            self._finite &= np.isfinite(log.metrics).all(axis=1)
        return any_ended or not all_finite or bool(self._envs.errors)

    def _result(self, place: int, rows: NDArray[np.float32], segment: Segment) -> SegmentResult:
        log = StepLog.unpack(rows, self._agent.environments)
        error = self._envs.errors.get(place)
        if error:
            state = self._ended[place]
            step, episode = int(state.steps) + 1, self._envs.resets[place].max()
            error = f"in step {step}, episode {episode}, {error}"
        finite = self._is_finite(place)
        policy: Policy | None = None
        returns = None
        whole = log.ended.size == segment.steps
        if segment.evaluate and whole and finite and not error:
            agent = self._agent_state(place)
            # The last learning may have spoiled parameters that no metric has seen yet.
            finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(agent.params))
            if finite:
                policy = self._agent.to_policy(agent, self._spec)
                try:
                    returns = self._evaluation.run(policy, self._cancelled).returns
                except Stopped:
                    pass  # it is made up for after a resume
                except UprightError as failure:
                    error = f"while it was evaluated, {failure}"
        if error or not finite:
            self._end(place)
        return SegmentResult(
            seed=self.seeds[place],
            log=log,
            finite=finite,
            policy=policy,
            returns=returns,
            state=self._state(place) if segment.save else None,
            error=error,
        )

    def _is_finite(self, place: int) -> bool:
        ended = self._ended.get(place)
        return bool(self._finite[place] if ended is None else ended.finite)

    def _draw(self) -> tuple[Any, NDArray[np.float32]]:
        """For the next ticks: of the memory [S T ...], of the agent [S T+1 noise]."""
        first = np.full(len(self.seeds), self._steps // self._agent.environments, np.int32)
        memory, noise = self._programs.draw(self._keys, first)
        return jax.tree.map(np.asarray, memory), np.asarray(noise)

    def _choose(self, which: NDArray[np.bool_]) -> None:
        """The first actions of episodes that did not follow from a tick."""
        steps = np.full(len(self.seeds), self._steps, np.int32)
        told = self._programs.act(self._packed, self._keys, self._envs.observations, steps)
        *fresh, _ = self._seed.told.parts([np.asarray(told)])
        chosen = [
            np.where(which.reshape(which.shape + (1,) * (new.ndim - 2)), new, old)
            for new, old in zip(fresh, [self._action, *self._extras], strict=True)
        ]
        self._action, *self._extras = chosen

    def _end(self, place: int) -> None:
        """Keeps the state of a seed that goes no further; the others go on."""
        self._ended.setdefault(place, self._state(place))
        self._going[place] = False
        self._envs.rest(place)

    def _agent_state(self, place: int) -> Any:
        if place in self._ended:
            return self._ended[place].agent
        # Copies, since the packed arrays are donated to the next call.
        return self._seed.state.unpack([np.array(leaf[place]) for leaf in self._packed])

    def _state(self, place: int) -> HostedState:
        if place in self._ended:
            return self._ended[place]
        each, like = self._agent.environments, self._seed.like
        histories = self._envs.histories[place * each : (place + 1) * each]
        actions = [np.array(one, like.action.dtype) for one in histories]
        history = [one.reshape(-1, *like.action.shape[1:]) for one in actions]
        return HostedState(
            key=np.array(self._keys[place]),
            agent=self._agent_state(place),
            memory=self._memory.stored(place),
            observation=self._envs.observations[place].copy(),
            action=self._action[place].copy(),
            extras=jax.tree.unflatten(
                jax.tree.structure(like.extras), [leaf[place].copy() for leaf in self._extras]
            ),
            resets=self._envs.resets[place].copy(),
            episode_return=self._envs.returns[place].copy(),
            lengths=self._envs.lengths[place].copy(),
            history=np.concatenate(history),
            steps=np.array(self._steps, np.int32),
            episodes=np.array(self._episodes[place]),
            finite=np.array(self._finite[place]),
        )

    def _restore(self, states: Sequence[HostedState]) -> None:
        """Goes on from there. The present episodes are played again, since nothing else brings a
        Gymnasium environment back; where that does not lead to the same observation, a new episode
        begins.
        """
        self._keys = jnp.stack([state.key for state in states])
        trees = [self._seed.state.pack(state.agent) for state in states]
        self._packed = [jnp.stack(leaves) for leaves in zip(*trees, strict=True)]
        for place, state in enumerate(states):
            self._memory.restore(place, state.memory)
        self._steps = int(states[0].steps)
        self._episodes = np.array([state.episodes for state in states], np.int32)
        self._finite = np.array([bool(state.finite) for state in states])
        chosen = [jax.tree.leaves((state.action, state.extras)) for state in states]
        self._action, *self._extras = map(np.stack, zip(*chosen, strict=True))
        expected = np.stack([state.observation for state in states])
        histories = [
            part.tolist()
            for state in states
            for part in np.split(state.history, np.cumsum(state.lengths)[:-1])
        ]
        resets = np.stack([state.resets for state in states])
        again = self._envs.play_again(histories, resets, self._cancelled)
        again &= self._envs.returns == np.stack([state.episode_return for state in states])
        begun = np.isfinite(expected).all(axis=2)  # the reset itself may have failed
        strays = begun & ~(again & (self._envs.observations == expected).all(axis=2))
        for place in self._envs.errors:  # not even up to there: it is to try again from there
            strays[place] = False
            self._ended[place] = states[place]
        self.irreproducible = [self.seeds[i] for i in np.flatnonzero(strays.any(axis=1)).tolist()]
        if strays.any():
            self._envs.begin(strays)
        if (strays | ~begun).any():
            self._choose(strays | ~begun)
