"""Gymnasium environments in step: E of each of some seeds."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from upright.bridge.flat import Flat
from upright.errors import one_line
from upright.runners.runner import Cancelled


class _Kept(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps an error of its environment to itself, so that the others go on."""

    def __init__(self, env: gym.Env[Any, Any]):
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


class Environments:
    """The present episodes of S seeds with E environments each; all arrays lead with [S E].

    Each episode is reset with a seed that follows from the run's seed, the environment's number and
    the episode's, so that it can be played again.
    """

    def __init__(
        self, make: Callable[[int], Flat], seeds: Sequence[int], environments: int
    ) -> None:
        self._seeds = seeds
        self._each = environments
        self._envs: list[_Kept] = []
        try:
            for seed in seeds:
                for _ in range(environments):
                    self._envs.append(_Kept(make(seed)))
        except BaseException:
            self.close()
            raise
        # Resetting is ours: the default would make a step of it, which is no transition.
        self._env = SyncVectorEnv(
            [lambda env=env: env for env in self._envs],
            copy=False,
            autoreset_mode=AutoresetMode.DISABLED,
        )
        size = self._env.single_observation_space.shape or (0,)
        shape = (len(seeds), environments)
        self.observations = np.zeros((*shape, *size), np.float32)
        self.resets = np.zeros(shape, np.int32)  # episodes begun
        self.histories: list[list[Any]] = [[] for _ in self._envs]  # actions of the present ones
        self.lengths = np.zeros(shape, np.int32)  # of the present episodes, so far
        self.returns = np.zeros(shape)  # of the present episodes, so far
        self.errors: dict[int, str] = {}  # by the seed's place; it rests from then on

    def begin(self, which: Bool[np.ndarray, "S E"]) -> None:
        """New episodes in these; where that fails, the observation is NaN."""
        places = np.flatnonzero(which).tolist()
        seeds: list[int | None] = [None] * len(self._envs)
        for place in places:
            seed, environment = divmod(place, self._each)
            entropy = [self._seeds[seed], int(self.resets.flat[place]), environment]
            seeds[place] = int(np.random.SeedSequence(entropy).generate_state(1)[0])
            self._envs[place].resting, self._envs[place].error = False, None
            self.errors.pop(seed, None)
        observations, _ = self._env.reset(seed=seeds, options={"reset_mask": which.ravel()})
        chosen = which[..., None]
        self.observations = np.where(
            chosen, observations.reshape(self.observations.shape), self.observations
        )
        self.resets[which] += 1
        self.lengths[which] = 0
        self.returns[which] = 0
        for place in places:
            self.histories[place] = []
            observation = self.observations.reshape(len(self._envs), -1)[place]
            if not np.isfinite(observation).all():
                self._fail(place, f"observation {observation} is not finite")

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Float[np.ndarray, "S E O"], NDArray[Any], NDArray[Any], NDArray[Any], list[int]]:
        """True next observations, rewards, terminated, truncated, and the seeds that failed.

        For the environments of these seeds there was no step.
        """
        before, resting = self.observations, [env.resting for env in self._envs]
        flat_actions = actions.reshape(-1, *actions.shape[2:])
        observations, rewards, terminated, truncated, _ = self._env.step(flat_actions)
        for history, action in zip(self.histories, flat_actions.tolist(), strict=True):
            history.append(action)
        self.lengths += 1
        failed: list[int] = []
        if not (np.isfinite(observations).all() and np.isfinite(rewards).all()):
            finite = np.isfinite(observations).all(axis=1) & np.isfinite(rewards)
            for place in np.flatnonzero(~finite).tolist():
                if not resting[place]:
                    wrong = f"reward {rewards[place]}"
                    if not np.isfinite(observations[place]).all():
                        wrong = f"observation {observations[place]}"
                    self._fail(place, f"{wrong} is not finite")
                    failed.append(place // self._each)
            undone = ~finite.reshape(self.lengths.shape).all(axis=1)
            observations, rewards = observations.copy(), rewards.copy()
            for place in np.flatnonzero(np.repeat(undone, self._each)).tolist():
                observations[place] = before.reshape(len(self._envs), -1)[place]
                rewards[place], terminated[place], truncated[place] = 0.0, False, False
                self.histories[place].pop()
            self.lengths[undone] -= 1
        self.observations = observations.reshape(before.shape).copy()
        shape = self.lengths.shape
        rewards, ends, cuts = (a.reshape(shape) for a in (rewards, terminated, truncated))
        self.returns += rewards
        return self.observations, rewards, ends, cuts, failed

    def rest(self, seed: int) -> None:
        """The seed at this place stands still from now on."""
        for env in self._envs[seed * self._each : (seed + 1) * self._each]:
            env.resting = True

    def play_again(
        self, histories: Sequence[Sequence[Any]], resets: NDArray[np.int32], cancelled: Cancelled
    ) -> Bool[np.ndarray, "S E"]:
        """Plays the present episode of each environment again: number `resets`, these actions.

        False where it ended on the way, or failed; the latter also is in `errors`. Raises
        KeyboardInterrupt if cancelled: nothing has been done yet that could be lost.
        """
        self.resets = resets - 1
        self.begin(np.ones(resets.shape, np.bool_))
        same = [
            place // self._each not in self.errors and self._play(place, actions, cancelled)
            for place, actions in enumerate(histories)
        ]
        return np.array(same).reshape(resets.shape)

    def close(self) -> None:
        """Ends all of them."""
        for env in self._envs:
            env.close()

    def _play(self, place: int, actions: Sequence[Any], cancelled: Cancelled) -> bool:
        # Not by the vector environment, which refuses any step after one episode has ended.
        env = self._envs[place]
        action_type = self._env.single_action_space.dtype
        for action in actions:
            if cancelled():
                raise KeyboardInterrupt
            step = env.step(np.asarray(action, action_type)[()])
            observation, reward, terminated, truncated, _ = step
            if env.error:
                self._fail(place, env.error)
            if env.error or terminated or truncated:
                return False
            where = divmod(place, self._each)
            self.observations[where] = observation
            self.returns[where] += reward
        self.histories[place] = list(actions)
        self.lengths.flat[place] = len(actions)
        return True

    def _fail(self, place: int, otherwise: str) -> None:
        seed = place // self._each
        self.rest(seed)
        self.errors.setdefault(seed, self._envs[place].error or f"the environment's {otherwise}")
