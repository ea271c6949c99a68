"""Random play, written down."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Float, Int

from upright.bridge.flat import Flat
from upright.bridge.values import EnvironmentFailedError

Actions = Int[np.ndarray, " T"] | Float[np.ndarray, "T U"]


@dataclass(frozen=True)
class Recording:
    """Steps of random actions, one episode after the other: T steps, O channels."""

    observation: Float[np.ndarray, "T O"]
    action: Actions  # indices of a Choice, else values
    reward: Float[np.ndarray, " T"]
    next_observation: Float[np.ndarray, "T O"]  # the true one, also where an episode ends
    terminated: Bool[np.ndarray, " T"]
    truncated: Bool[np.ndarray, " T"]
    episode: Int[np.ndarray, " T"]  # from 0 on
    low: Float[np.ndarray, " O"]  # declared bounds
    high: Float[np.ndarray, " O"]
    seconds: float  # that the environment took
    failure: str | None = None  # why it ended early

    @cached_property
    def ended(self) -> Bool[np.ndarray, " T"]:
        return self.terminated | self.truncated

    @cached_property
    def lengths(self) -> Int[np.ndarray, " episodes"]:
        """[steps]; the last episode may not have come to its end."""
        return np.bincount(self.episode)

    @cached_property
    def step(self) -> Int[np.ndarray, " T"]:
        """Number of the step within its episode, from 0 on."""
        first = np.cumsum(self.lengths) - self.lengths
        return np.arange(len(self.episode)) - first[self.episode]


def random_actions(env: Flat, steps: int, seed: int) -> Actions:
    """Of equal chance: each index of a Choice, each value between the bounds of Continuous."""
    rng, space = np.random.default_rng(seed), env.action_space
    if isinstance(space, gym.spaces.Discrete):
        return rng.integers(space.n, size=steps)
    assert isinstance(space, gym.spaces.Box)
    return rng.uniform(space.low, space.high, (steps, *space.shape)).astype(np.float32)


def record(
    env: Flat, steps: int, seed: int, watch: Callable[[float], None] = lambda fraction: None
) -> Recording:
    """Plays at random, among the allowed actions; an error of the environment ends it.

    `watch` is called with the share that is done.
    """
    size, space = env.observation_size, env.observation_space
    assert isinstance(space, gym.spaces.Box)
    before, after = (np.zeros((steps, size), np.float32) for _ in range(2))
    actions = random_actions(env, steps, seed)
    rewards = np.zeros(steps)
    terminated, truncated = (np.zeros(steps, np.bool_) for _ in range(2))
    episodes = np.zeros(steps, np.int64)
    episode, present, done, failure = -1, None, 0, None
    begin = time.perf_counter()
    try:
        for step in range(steps):
            if present is None:
                episode += 1
                present = env.reset(seed=seed + episode)[0]
            before[step], episodes[step] = present, episode
            actions[step] = env.permitted(actions[step])
            present, reward, ends, cut, _ = env.step(actions[step])
            after[step], rewards[step] = present, reward
            terminated[step], truncated[step] = ends, cut
            if ends or cut:
                present = None
            done = step + 1
            if done % 100 == 0:
                watch(done / steps)
    except EnvironmentFailedError as error:
        where = "at the reset" if error.call == "reset" else f"in step {done + 1}"
        failure = f"{where}, reset seed {seed + episode}, {error}"
    return Recording(
        observation=before[:done],
        action=actions[:done],
        reward=rewards[:done],
        next_observation=after[:done],
        terminated=terminated[:done],
        truncated=truncated[:done],
        episode=episodes[:done],
        low=space.low,
        high=space.high,
        seconds=time.perf_counter() - begin,
        failure=failure,
    )
