"""Gymnasium environments in step: E of each of some seeds."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from upright.bridge.flat import Flat
from upright.bridge.values import EnvironmentFailedError
from upright.evaluation.players import Observer


class Environments:
    """The present episodes of S seeds with E environments each; all arrays lead with [S E].

    Each episode is reset with a seed that follows from the run's seed, the environment's number and
    the episode's, so that it can be played again. Resetting is ours: an environment that does it by
    itself would make a step of it, which is no transition, and hide the final observation.
    """

    def __init__(
        self, make: Callable[[int], Flat], seeds: Sequence[int], environments: int, masked: bool
    ) -> None:
        """`masked`: the task says which actions are allowed."""
        self._seeds = seeds
        self._each = environments
        self._envs: list[Flat] = []
        try:
            for seed in seeds:
                for _ in range(environments):
                    env = make(seed)
                    env.masked = masked
                    self._envs.append(env)
        except BaseException:
            self.close()
            raise
        shape = (len(seeds), environments)
        self.observations = np.zeros((*shape, self._envs[0].observation_size), np.float32)
        # [S E A] allowed at these observations; None: the task has no masks
        self.masks = np.ones((*shape, self._envs[0].action_size), np.bool_) if masked else None
        self.resets = np.zeros(shape, np.int32)  # episodes begun
        self.histories: list[list[Any]] = [[] for _ in self._envs]  # actions of the present ones
        self.lengths = np.zeros(shape, np.int32)  # of the present episodes, so far
        self.returns = np.zeros(shape)  # of the present episodes, so far
        self.errors: dict[int, EnvironmentFailedError] = {}  # by the seed's place
        self._resting = np.zeros(len(seeds), np.bool_)  # stand still, whatever the others do

    def begin(self, which: Bool[np.ndarray, "S E"]) -> None:
        """New episodes in these; where that fails, the observation is NaN and the seed rests."""
        for place in np.flatnonzero(which).tolist():
            seed, environment = where = divmod(place, self._each)
            self._resting[seed] = False
            self.errors.pop(seed, None)
            entropy = [self._seeds[seed], int(self.resets[where]), environment]
            reset_seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
            self.resets[where] += 1
            self.lengths[where], self.returns[where], self.histories[place] = 0, 0, []
            try:
                self.observations[where], _ = self._envs[place].reset(seed=reset_seed)
                self._look(place)
            except EnvironmentFailedError as error:
                self.observations[where] = np.nan
                self._fail(seed, error)

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Float[np.ndarray, "S E O"], NDArray[Any], NDArray[Any], NDArray[Any], list[int]]:
        """True next observations, rewards, terminated, truncated, and the seeds that failed.

        For the environments of these seeds there was no step.
        """
        after, shape = self.observations.copy(), self.lengths.shape
        rewards, terminated, truncated = (
            np.zeros(shape),
            np.zeros(shape, bool),
            np.zeros(shape, bool),
        )
        failed: list[int] = []
        told = actions.tolist()
        for seed in np.flatnonzero(~self._resting).tolist():
            try:
                for one in range(self._each):
                    where = (seed, one)
                    (
                        after[where],
                        rewards[where],
                        terminated[where],
                        truncated[where],
                        _,
                    ) = self._envs[seed * self._each + one].step(actions[where])
                    self._look(seed * self._each + one)
            except EnvironmentFailedError as error:
                after[seed] = self.observations[seed]
                rewards[seed], terminated[seed], truncated[seed] = 0, False, False
                self._fail(seed, error)
                failed.append(seed)
                continue
            self.lengths[seed] += 1
            for one in range(self._each):
                self.histories[seed * self._each + one].append(told[seed][one])
        self.observations = after
        self.returns += rewards
        return after, rewards, terminated, truncated, failed

    def rest(self, seed: int) -> None:
        """The seed at this place stands still from now on."""
        self._resting[seed] = True

    def play_again(
        self, histories: Sequence[Sequence[Any]], resets: NDArray[np.int32], observer: Observer
    ) -> Bool[np.ndarray, "S E"]:
        """Plays the present episode of each environment again: number `resets`, these actions.

        False where it ended on the way, or failed; the latter also is in `errors`. Raises
        KeyboardInterrupt if cancelled: nothing has been done yet that could be lost.
        """
        self.resets = resets - 1
        self.begin(np.ones(resets.shape, np.bool_))
        same = [
            place // self._each not in self.errors and self._play(place, actions, observer)
            for place, actions in enumerate(histories)
        ]
        return np.array(same).reshape(resets.shape)

    def close(self) -> None:
        """Ends all of them."""
        for env in self._envs:
            env.close()

    def _play(self, place: int, actions: Sequence[Any], observer: Observer) -> bool:
        where = divmod(place, self._each)
        env = self._envs[place]
        action_type = env.action_space.dtype
        for action in actions:
            if observer.cancelled():
                raise KeyboardInterrupt
            if self.masks is not None and not self.masks[where][action]:
                return False  # it is elsewhere than it was
            try:
                step = env.step(np.asarray(action, action_type)[()])
                self._look(place)
            except EnvironmentFailedError as error:
                self._fail(where[0], error)
                return False
            self.observations[where], reward, terminated, truncated, _ = step
            if terminated or truncated:
                return False
            self.returns[where] += reward
        self.histories[place] = list(actions)
        self.lengths[where] = len(actions)
        return True

    def _look(self, place: int) -> None:
        """Which actions this environment allows now."""
        if self.masks is not None:
            self.masks[divmod(place, self._each)] = self._envs[place].action_mask

    def _fail(self, seed: int, error: EnvironmentFailedError) -> None:
        self.rest(seed)
        self.errors.setdefault(seed, error)
