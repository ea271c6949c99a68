"""A native task as a Gymnasium environment."""

from typing import Any

import gymnasium as gym
import jax
import numpy as np
from gymnasium.spaces import Box
from jaxtyping import Array, Float, UInt32
from numpy.typing import NDArray

from upright.bridge.drawing import Drawing, is_drawn
from upright.bridge.flat import action_space
from upright.errors import UprightError
from upright.parameters import LARGEST
from upright.spec import Choice
from upright.tasks.catalogue import Ranges, make_task
from upright.tasks.randomised import in_this_episode
from upright.tasks.task import Task, TimeStep


class NativeEnv(gym.Env[NDArray[Any], Any]):
    """The native task of an id; each keyword of `physics` changes a parameter of it, in its unit.

    `randomise`: the parameters that are drawn anew at each reset, from the lowest to the highest.
    It has no time limit of its own: `gymnasium.make` adds the one that is registered.
    Raises UprightError for an unknown parameter, or a value that it cannot have.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        render_mode: str | None = None,
        randomise: Ranges | None = None,
        **physics: object,
    ) -> None:
        self._task = make_task(task, physics, randomise)
        self._spec = self._task.spec
        assert self._spec.dt, "a native task knows its sampling time"
        self.observation_space = observation_space(self._task)
        self.action_space = action_space(self._spec.action)
        self.render_mode = render_mode
        modes = self.metadata["render_modes"] if is_drawn(self._task) else []
        if render_mode not in (None, *modes):
            raise UprightError(f"task {task!r} has no picture: it has no `drawn_by`")
        self.metadata = {"render_modes": modes, "render_fps": 1 / self._spec.dt}
        self._drawing: Drawing | None = None
        self.upright_spec = self._spec  # read by bridge.spec
        self.state: Any = None  # the task's, as after the last reset or step
        self._inputs: Any = None  # of the last step, [U] in the units of the task

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """A random start state; there are no options."""
        super().reset(seed=seed)
        self.state, observation = _start(self._task, draw_key(self.np_random))
        self._inputs = None
        if self.render_mode == "human":
            self.render()
        return np.array(observation), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One sampling time later."""
        if self.state is None:
            raise gym.error.ResetNeeded("call reset() before step()")
        self._inputs = self._physical(action)
        self.state, timestep = _step(self._task, self.state, self._inputs)
        if self.render_mode == "human":
            self.render()
        observation = np.array(timestep.observation)
        return observation, float(timestep.reward), bool(timestep.terminated), False, {}

    def _physical(self, action: Any) -> Float[np.ndarray, " U"]:
        """The inputs of the plant; a continuous action is clipped to its bounds, as Gymnasium's."""
        if isinstance(self._spec.action, Choice):
            count = self._spec.action.count
            if not self.action_space.contains(action):
                raise UprightError(
                    f"action is {action!r}; it must be an integer from 0 to {count - 1}"
                )
            return self._spec.action.physical(action)
        action, count = np.asarray(action, np.float32), self._spec.action.count
        if action.shape != (count,) or not np.isfinite(action).all():
            numbers = "a finite number" if count == 1 else f"{count} finite numbers"
            raise UprightError(f"action is {action.tolist()}; it must be an array of {numbers}")
        return self._spec.action.physical(action)

    def render(self) -> Any:
        """None in a window, else [height, width, 3]; Gymnasium's picture of the original task."""
        if self.state is None:
            raise gym.error.ResetNeeded("call reset() before render()")
        if self.render_mode is None:
            gym.logger.warn("nothing to render: no render_mode was given to gymnasium.make")
            return None
        if self._drawing is None:
            self._drawing = Drawing(self._task, self.render_mode)
        task, state = in_this_episode(self._task, self.state)
        return self._drawing.draw(task, np.asarray(state.x), self._inputs)

    def close(self) -> None:
        """Closes the window; a later `render` opens another one."""
        if self._drawing is not None:
            self._drawing.close()
            self._drawing = None


def observation_space(task: Task) -> Box:
    """Bounds of every observation, those that end an episode and those outside of it included.

    They are narrow where the plant saturates. Elsewhere they are the largest float32, so that an
    observation which is not finite is outside.
    """
    channels = task.spec.observation.channels
    low = [max(channel.minimum, -LARGEST) for channel in channels]
    high = [min(channel.maximum, LARGEST) for channel in channels]
    return Box(np.array(low, np.float32), np.array(high, np.float32), dtype=np.float32)


def draw_key(generator: np.random.Generator) -> UInt32[np.ndarray, " 2"]:
    """What `start` makes its key of."""
    return np.frombuffer(generator.bytes(8), np.uint32)


def start(task: Task, words: UInt32[Array, " 2"]) -> tuple[Any, Float[Array, " O"]]:
    """A random state of a task, and its observation."""
    # The generator is named, since two words are a key of this one alone.
    state = task.reset(jax.random.wrap_key_data(words, impl="threefry2x32"))
    return state, task.observe(state)


def step(task: Task, state: Any, action: Float[Array, " U"]) -> tuple[Any, TimeStep]:
    """The state and what is seen of it after an action."""
    return task.step(state, action)


# A task is a static argument: all environments with the same physics share one program.
_start = jax.jit(start, static_argnums=0)
_step = jax.jit(step, static_argnums=0)
