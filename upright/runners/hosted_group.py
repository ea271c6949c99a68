"""Seeds that go on in step: one compiled call for each tick.

The memories stay on the host, and so does all that is random.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from upright.bridge.values import EnvironmentFailedError
from upright.errors import UprightError
from upright.evaluation.players import Episodes, Observer, Stopped
from upright.policy import Policy
from upright.runners.environments import Environments
from upright.runners.hosted_programs import Frame, Programs
from upright.runners.hosting import HostedState, Hosting
from upright.runners.runner import (
    Segment,
    SegmentResult,
    States,
    StepLog,
    judge_all,
)


class HostedGroup:
    """Some seeds that are all at the same step."""

    def __init__(
        self,
        runner: Hosting,
        programs: Programs,
        seeds: tuple[int, ...],
        states: States,
        observer: Observer,
    ):
        self.seeds = seeds
        self.irreproducible: list[int] = []
        self._runner = runner
        self._agent = runner.agent
        self._seed = runner.seed
        self._programs = programs
        self._observer = observer
        self._disturbed = False  # the present episode, by an evaluation in its environment
        self._rules = runner.seed.memory
        self._memory = self._rules.on_host(len(seeds))
        begun = [programs.init(np.uint32(seed)) for seed in seeds]
        self._held = programs.hold([packed for packed, _ in begun])
        self._keys = np.stack([key for _, key in begun])
        like = runner.seed.like
        zeros = [
            np.zeros((len(seeds), *leaf.shape), leaf.dtype)
            for leaf in jax.tree.leaves((like.action, like.extras))
        ]
        self._action, *self._extras = zeros  # [S E ...] chosen, not yet carried out; leaves
        # What a call is told, and views of its parts.
        self._frame = programs.rows(np.zeros((len(seeds), runner.seed.frame.width), np.float32))
        self._parts = Frame(*runner.seed.frame.parts(self._frame[: len(seeds)]))
        self._transition = runner.seed.row.parts(self._parts.transition)
        self._steps = 0
        self._episodes = np.zeros(len(seeds), np.int32)
        self._finite = np.ones(len(seeds), np.bool_)
        self._going = np.ones(len(seeds), np.bool_)
        self._ended: dict[int, HostedState] = {}  # by place: those that go no further
        self._envs, self._evaluation = self._make()
        try:
            self._begin(states)
        except BaseException:
            self.close()
            raise

    def _make(self) -> tuple[Environments, Episodes]:
        """What is learned in, and one more to evaluate in, unless there can be only one."""
        runner, each = self._runner, self._agent.environments
        if runner.single:
            env = runner.make_env(self.seeds[0])
            alone = Environments(lambda seed: env, self.seeds, each, runner.spec.masked)
            return alone, Episodes([env])
        envs = Environments(runner.make_env, self.seeds, each, runner.spec.masked)
        try:
            return envs, Episodes([runner.make_env(None)])
        except BaseException:
            envs.close()
            raise

    def _begin(self, states: States) -> None:
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
        if judged := judge_all(self._runner.judge, segments, self._evaluation, self._observer):
            return judged
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
        cancelled = self._observer.cancelled()
        going = int(self._going.sum())
        if ticks and self._disturbed and not cancelled:
            self._go_on()
        # Whoever is evaluated in the environment that it learns in gives its episode up for that.
        last = self._runner.single and any(segment.evaluate for segment in segments.values())
        for tick, rows in enumerate(log):
            if cancelled or not going:
                break
            cut = last and tick == ticks - 1
            eventful = self._tick(StepLog.unpack(rows, each), tick, *drawn, cut=cut)
            taken += self._going
            self._observer.stepped((int(self._going.sum()) if eventful else going) * each)
            cancelled = self._observer.cancelled()
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

    def _tick(
        self, log: StepLog, tick: int, memory: Any, noise: NDArray[np.float32], cut: bool
    ) -> bool:
        """One tick of all seeds, into the log; those that have ended compute into the blue.

        `cut`: the present episodes end with it. False where nothing ended and nothing failed, as in
        most ticks.
        """
        before = self._envs.observations
        after, rewards, terminated, truncated, failed = self._envs.step(self._action)
        for place in failed:
            self._end(place)
        ended = terminated | truncated
        if cut:
            ended[self._going] = True
        told = [before, self._action, rewards, 1 - terminated, after, ended, *self._extras]
        if self._envs.masks is not None:
            told.append(self._envs.masks)
        for part, value in zip(self._transition, told, strict=True):
            part[...] = value
        self._memory.add(self._parts.transition)
        log.ended[:], log.terminated[:] = ended, terminated
        with np.errstate(over="ignore"):  # a return beyond float32 is infinite
            log.episode_return[:] = self._envs.returns
        log.episode_length[:] = self._envs.lengths
        any_ended = bool(ended.any())
        if any_ended:
            self._envs.begin(ended)
            self._episodes += ended.sum(axis=1)
        self._steps += self._agent.environments
        self._parts.present[:] = self._envs.observations
        if self._envs.masks is not None:
            self._parts.mask[:] = self._envs.masks
        self._parts.noise[:], self._parts.next_noise[:] = noise[:, tick], noise[:, tick + 1]
        self._parts.steps.view(np.int32)[:] = self._steps
        if self._rules.due(self._steps):
            sampled = self._memory.sample(memory, tick)
            self._held, answer = self._programs.learn(
                len(self.seeds), self._held, self._frame, sampled
            )
            log.learned[:] = 1
        else:
            self._held, answer = self._programs.wait(len(self.seeds), self._held, self._frame)
        parts = self._seed.told.parts([answer])
        self._action, *self._extras, log.metrics[:] = parts
        all_finite = bool(np.isfinite(log.metrics).all())
        if not all_finite:
            self._finite &= np.isfinite(log.metrics).all(axis=1)
        return any_ended or not all_finite or bool(self._envs.errors)

    def _result(self, place: int, rows: NDArray[np.float32], segment: Segment) -> SegmentResult:
        log = StepLog.unpack(rows, self._agent.environments)
        error: UprightError | str | None = self._envs.errors.get(place)
        if isinstance(error, EnvironmentFailedError):
            state, episode = self._ended[place], self._envs.resets[place].max()
            step = f"in step {int(state.steps) + 1}, episode {episode}"
            where = step if error.call == "step" else f"at the reset of episode {episode}"
            error = f"{where}, {error}"
        finite = self._is_finite(place)
        policy: Policy | None = None
        returns = None
        whole = log.ended.size == segment.steps
        if segment.evaluate and whole and finite and not error:
            agent = self._agent_state(place)
            # The last learning may have spoiled parameters that no metric has seen yet.
            finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(agent.params))
            if finite:
                policy = self._agent.to_policy(agent, self._runner.spec)
                self._disturbed = self._runner.single
                try:
                    returns = self._evaluation.run(
                        policy,
                        self._runner.evaluation_seeds,
                        self._runner.max_steps,
                        in_all=segment.evaluation_steps,
                        observer=self._observer,
                    ).returns
                except Stopped:
                    pass  # after a resume it is made up for
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
            error=str(error) if error else None,
        )

    def _is_finite(self, place: int) -> bool:
        ended = self._ended.get(place)
        return bool(self._finite[place] if ended is None else ended.finite)

    def _draw(self) -> tuple[Any, NDArray[np.float32]]:
        """For the next ticks: of the memory [S T ...], of the agent [S T+1 noise]."""
        first = np.int32(self._steps // self._agent.environments)
        drawn = [self._programs.draw(key, first) for key in self._keys]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)

    def _choose(self, which: NDArray[np.bool_]) -> None:
        """The first actions of episodes that did not follow from a tick."""
        masks, steps = self._envs.masks, np.int32(self._steps)
        told = [
            self._programs.act(
                self._packed_of(place), key, present, steps, None if masks is None else masks[place]
            )
            for place, (key, present) in enumerate(
                zip(self._keys, self._envs.observations, strict=True)
            )
        ]
        *fresh, _ = self._seed.told.parts([np.stack(told)])
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
        return self._seed.state.unpack(self._packed_of(place))

    def _packed_of(self, place: int) -> list[NDArray[np.float32]]:
        # Copies, since the packed arrays are donated to the next call.
        return [np.array(np.asarray(leaf)[place]) for leaf in self._held.rows]

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

    def _go_on(self) -> None:
        """From the beginning of the present episode, after an evaluation in its environment."""
        self._disturbed = False
        before = self._envs.observations.copy()  # which is written in place
        self._envs.play_again(self._envs.histories, self._envs.resets, self._observer)
        for place in self._envs.errors:
            self._end(place)
        other = (self._envs.observations != before).any(axis=2) | ~self._allowed()
        if other.any():
            self._choose(other)

    def _allowed(self) -> NDArray[np.bool_]:
        """[S E] whether the actions that were chosen may be carried out."""
        masks = self._envs.masks
        if masks is None:
            return np.ones(self._envs.lengths.shape, np.bool_)
        chosen = np.asarray(self._action, np.int64)[..., None]
        return np.take_along_axis(masks, chosen, axis=2)[..., 0]

    def _restore(self, states: Sequence[HostedState]) -> None:
        """Goes on from there. The present episodes are played again, since nothing else brings a
        Gymnasium environment back; where that does not lead to the same observation, a new episode
        begins.
        """
        self._keys = np.stack([state.key for state in states])
        self._held = self._programs.hold([self._seed.state.pack(one.agent) for one in states])
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
        again = self._envs.play_again(histories, resets, self._observer)
        again &= self._envs.returns == np.stack([state.episode_return for state in states])
        begun = np.isfinite(expected).all(axis=2)  # the reset itself may have failed
        same = (self._envs.observations == expected).all(axis=2) & self._allowed()
        strays = begun & ~(again & same)
        for place in self._envs.errors:  # not even up to there: it is to try again from there
            strays[place] = False
            self._ended[place] = states[place]
        self.irreproducible = [self.seeds[i] for i in np.flatnonzero(strays.any(axis=1)).tolist()]
        if strays.any():
            self._envs.begin(strays)
        if (strays | ~begun).any():
            self._choose(strays | ~begun)
