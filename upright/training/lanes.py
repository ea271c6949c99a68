"""Gymnasium environments in step, one for each seed of a crew."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from upright.tasks.bridge import Flat, one_line
from upright.training.fleet import Pulse

Actions = NDArray[np.int32]
Bools = NDArray[np.bool_]
Observations = NDArray[np.float32]


class _Lane(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps an error of its environment to itself, so that the others go on."""

    def __init__(self, env: Flat):
        super().__init__(env)
        self.resting = False  # stands still, whatever the others do
        self.error: str | None = None  # what went wrong
        self._nowhere = np.full(env.observation_space.shape or (), np.nan, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        try:
            observation, _ = self.env.reset(seed=seed)
        except (Exception, SystemExit) as error:
            self._note(error)
            return self._nowhere, {}
        return observation, {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        if not self.resting:
            try:
                observation, reward, terminated, truncated, _ = self.env.step(action)
                return observation, float(reward), terminated, truncated, {}
            except (Exception, SystemExit) as error:
                self._note(error)
        return self._nowhere, 0.0, False, False, {}

    def _note(self, error: BaseException) -> None:
        self.error = f"the environment raised {type(error).__name__}: {one_line(error)}"


class Lanes:
    """The present episode of each seed.

    Each episode is reset with a seed that follows from the run's seed and the number of the
    episode, so that it can be played again.
    """

    def __init__(self, makers: Sequence[Callable[[], Flat]], seeds: Sequence[int]):
        self._seeds = seeds
        self._lanes = [_Lane(make()) for make in makers]
        # Resetting is ours: the default would make a step of it, which is no transition.
        self._env = SyncVectorEnv(
            [lambda lane=lane: lane for lane in self._lanes],
            copy=False,
            autoreset_mode=AutoresetMode.DISABLED,
        )
        size = self._env.single_observation_space.shape or (0,)
        self.observations: Observations = np.zeros((len(seeds), *size), np.float32)
        self.resets = np.zeros(len(seeds), np.int32)  # episodes begun
        self.actions: list[list[int]] = [[] for _ in seeds]  # of the present episode
        self.lengths = np.zeros(len(seeds), np.int32)  # of the present episode, so far
        self.returns = np.zeros(len(seeds))  # of the present episode, so far
        self.errors: dict[int, str] = {}  # by lane; it rests from then on

    def begin(self, lanes: Bools) -> None:
        """A new episode in these lanes; where that fails, its observation is NaN."""
        seeds: list[int | None] = [
            int(np.random.SeedSequence([seed, reset]).generate_state(1)[0]) if begins else None
            for seed, reset, begins in zip(
                self._seeds, self.resets.tolist(), lanes.tolist(), strict=True
            )
        ]
        for lane in np.flatnonzero(lanes).tolist():
            self._lanes[lane].resting, self._lanes[lane].error = False, None
            self.errors.pop(lane, None)
        observations, _ = self._env.reset(seed=seeds, options={"reset_mask": lanes})
        self.observations = np.where(lanes[:, None], observations, self.observations)
        self.resets[lanes] += 1
        self.lengths[lanes] = 0
        self.returns[lanes] = 0
        for lane in np.flatnonzero(lanes).tolist():
            self.actions[lane] = []
            if not np.isfinite(self.observations[lane]).all():
                self._fail(lane, f"observation {self.observations[lane]} is not finite")

    def step(
        self, actions: Actions
    ) -> tuple[Observations, NDArray[np.float64], Bools, Bools, Sequence[int]]:
        """True next observations, rewards, terminated, truncated, and the lanes that failed.

        For these lanes there was no step.
        """
        before, resting = self.observations, [lane.resting for lane in self._lanes]
        observations, rewards, terminated, truncated, _ = self._env.step(actions)
        self.observations = observations.copy()
        for history, action in zip(self.actions, actions.tolist(), strict=True):
            history.append(action)
        self.lengths += 1
        failed: list[int] = []
        if not (np.isfinite(observations).all() and np.isfinite(rewards).all()):
            finite = np.isfinite(observations).all(axis=1) & np.isfinite(rewards)
            for lane in np.flatnonzero(~finite).tolist():
                if not resting[lane]:
                    wrong = f"reward {rewards[lane]}"
                    if not np.isfinite(observations[lane]).all():
                        wrong = f"observation {observations[lane]}"
                    self._fail(lane, f"{wrong} is not finite")
                    failed.append(lane)
                self.observations[lane], rewards[lane] = before[lane], 0.0
                self.actions[lane].pop()
                self.lengths[lane] -= 1
        self.returns += rewards
        return self.observations, rewards, terminated, truncated, failed

    def rest(self, lane: int) -> None:
        """Stands still from now on."""
        self._lanes[lane].resting = True

    def replay(
        self, episodes: Sequence[Sequence[int]], resets: Sequence[int], pulse: Pulse
    ) -> Bools:
        """Plays the present episode of each lane again: number `resets`, with these actions.

        False where it ended on the way, or failed; the latter also is in `errors`. Raises
        KeyboardInterrupt if `pulse` says so: nothing has been done yet that could be lost.
        """
        self.resets = np.array(resets, np.int32) - 1
        self.begin(np.ones(len(episodes), np.bool_))
        return np.array(
            [
                lane not in self.errors and self._play(lane, actions, pulse)
                for lane, actions in enumerate(episodes)
            ]
        )

    def close(self) -> None:
        self._env.close()

    def _play(self, lane: int, actions: Sequence[int], pulse: Pulse) -> bool:
        # Not by the vector environment, which refuses any step after one lane's episode has ended.
        env = self._lanes[lane]
        for action in actions:
            if pulse(0):
                raise KeyboardInterrupt
            observation, reward, terminated, truncated, _ = env.step(np.int32(action))
            if env.error:
                self._fail(lane, env.error)
            if env.error or terminated or truncated:
                return False
            self.observations[lane] = observation
            self.returns[lane] += reward
        self.actions[lane], self.lengths[lane] = list(actions), len(actions)
        return True

    def _fail(self, lane: int, otherwise: str) -> None:
        self._lanes[lane].resting = True
        self.errors[lane] = self._lanes[lane].error or f"the environment's {otherwise}"
