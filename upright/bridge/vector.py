"""Many native tasks of one kind as one Gymnasium vector environment: one call steps them all."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Array, Bool, Float, UInt32
from numpy.typing import NDArray

from upright.bridge.flat import action_space
from upright.bridge.single import draw_key, observation_space, start
from upright.errors import UprightError
from upright.spec import Choice
from upright.tasks.catalogue import Ranges, make_task
from upright.tasks.randomised import with_time_limit
from upright.tasks.task import Task

_NO_LIMIT = 2**31 - 1  # [steps]

_Observations = Float[np.ndarray, "N O"]
_Mask = Bool[np.ndarray, " N"]


class NativeVectorEnv(VectorEnv[NDArray[Any], Any, NDArray[Any]]):
    """What Gymnasium's SyncVectorEnv is for several of `NativeEnv`, with the same numbers.

    The time limit [steps] is in it; None or -1 for none. Each keyword of `physics` changes a
    parameter of all tasks, in its unit; those in `randomise` are drawn anew at each reset.
    Raises UprightError for an unknown parameter, or a value that it cannot have.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        randomise: Ranges | None = None,
        **physics: object,
    ) -> None:
        limit = _NO_LIMIT if max_episode_steps in (None, -1) else max_episode_steps
        for name, count in (("num_envs", num_envs), ("max_episode_steps", limit)):
            if count < 1:
                raise UprightError(f"{name} is {count}; it must be at least 1")
        self._task = with_time_limit(make_task(task, physics, randomise), limit)
        self.num_envs = num_envs
        self._mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self._mode}
        self.single_observation_space = observation_space(self._task)
        self.single_action_space = action_space(self._task.spec.action)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators = [seeding.np_random()[0] for _ in range(num_envs)]
        self._ended = np.zeros(num_envs, bool)
        self._state: Any = None
        self._observations = np.zeros((num_envs, self._task.spec.observation_size), np.float32)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Random start states. With `seed` an integer, environment i has the seed `seed + i`.

        The option "reset_mask", a bool for each environment, leaves the others as they are.
        """
        everyone = np.ones(self.num_envs, bool)
        chosen = self._checked_mask((options or {}).get("reset_mask", everyone))
        if self._state is None and not chosen.all():
            raise gym.error.ResetNeeded("reset all environments before some of them")
        if isinstance(seed, int):
            seed = range(seed, seed + self.num_envs)
        if seed is not None and len(seed) != self.num_envs:
            raise UprightError(f"there are {len(seed)} seeds for {self.num_envs} environments")
        for i, own in enumerate(seed or ()):
            if chosen[i] and own is not None:
                self._generators[i], _ = seeding.np_random(own)
        self._restart(chosen, self._observations)
        self._ended[chosen] = False
        return self._observations.copy(), {}

    def step(
        self, actions: Any
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """One sampling time later, but for those that restart by this step (`NEXT_STEP`)."""
        if self._state is None:
            raise gym.error.ResetNeeded("call reset() before step()")
        inputs = self._physical(actions)
        if self._mode is AutoresetMode.DISABLED and self._ended.any():
            ended = np.flatnonzero(self._ended).tolist()
            raise UprightError(f"environments {ended} have ended; reset them by the reset_mask")
        self._state, timestep = _step(self._task, self._state, inputs)
        self._observations, rewards, terminated, truncated = map(np.array, timestep)
        infos: dict[str, Any] = {}
        if self._mode is AutoresetMode.NEXT_STEP:
            rewards[self._ended] = 0
            terminated[self._ended] = truncated[self._ended] = False
            self._restart(self._ended, self._observations)
        self._ended = terminated | truncated
        if self._mode is AutoresetMode.SAME_STEP:
            for i in np.flatnonzero(self._ended).tolist():
                final = {"final_obs": self._observations[i].copy(), "final_info": {}}
                infos = self._add_info(infos, final, i)
            self._restart(self._ended, self._observations)
        return self._observations.copy(), rewards.astype(np.float64), terminated, truncated, infos

    def _physical(self, actions: Any) -> Float[np.ndarray, "N U"]:
        """The inputs of the plants; continuous actions are clipped to their bounds."""
        action = self._task.spec.action
        if isinstance(action, Choice):
            actions = np.asarray(actions)
            fits = self.action_space.contains(actions)
        else:
            actions = np.asarray(actions, np.float32)
            fits = actions.shape == self.action_space.shape and np.isfinite(actions).all()
        if not fits:
            raise UprightError(
                f"actions are {actions.tolist()}; they must be in {self.action_space}"
            )
        return action.physical(actions)

    def _restart(self, chosen: _Mask, observations: _Observations) -> None:
        """Restarts the chosen environments; no other one's random numbers are touched."""
        if not chosen.any():
            return
        words = np.zeros((self.num_envs, 2), np.uint32)
        for i in np.flatnonzero(chosen):
            words[i] = draw_key(self._generators[i])
        state, fresh = _starts(self._task, words)
        self._state = state if self._state is None else _choose(chosen, state, self._state)
        observations[chosen] = np.asarray(fresh)[chosen]

    def _checked_mask(self, mask: Any) -> _Mask:
        fits = isinstance(mask, np.ndarray) and mask.dtype == bool
        if not fits or mask.shape != (self.num_envs,) or not mask.any():
            raise UprightError(
                f"reset_mask is {mask!r}; it must be a NumPy array of {self.num_envs} bools,"
                " one of them true"
            )
        return mask


@partial(jax.jit, static_argnums=0)
def _starts(task: Task, words: UInt32[Array, "N 2"]) -> tuple[Any, Float[Array, "N O"]]:
    return jax.vmap(partial(start, task))(words)


@partial(jax.jit, static_argnums=0)
def _step(task: Task, states: Any, actions: Float[Array, "N U"]) -> tuple[Any, Any]:
    return jax.vmap(task.step)(states, actions)


@jax.jit
def _choose(chosen: Bool[Array, " N"], those: Any, others: Any) -> Any:
    """One state for each environment: of `those` where it is chosen, else of `others`."""

    def choose(chosen: Bool[Array, ""], that: Any, other: Any) -> Any:
        return jax.tree.map(partial(jnp.where, chosen), that, other)

    return jax.vmap(choose)(chosen, those, others)
