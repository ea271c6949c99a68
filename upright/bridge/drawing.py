"""Pictures of a native task, drawn by Gymnasium's original environment."""

from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from upright.errors import INSTALL_RENDER, UprightError
from upright.tasks import parameters
from upright.tasks.randomised import Randomised
from upright.tasks.task import Task

_LARGEST_TORQUE = 2.0  # beyond it Pendulum's arrow would not fit into its picture [N m]

# What a drawing reads of its environment, and the parameter of ours that it shall read.
_READ = {
    "length": "half_length",
    "x_threshold": "position_limit",
    "LINK_LENGTH_1": "length_1",
    "LINK_LENGTH_2": "length_1",  # the task's second link counts as long as the first
    "min_position": "left_wall",
    "max_position": "right_wall",
    "goal_position": "goal",
}


def is_drawn(task: Task) -> bool:
    """Whether an environment of Gymnasium's can draw it."""
    return _drawn_by(task) is not None


class Drawing:
    """The original environment of a task, brought into states that are ours."""

    def __init__(self, task: Any, mode: str) -> None:
        """Of a task that `is_drawn`."""
        original: Any = gym.make(_drawn_by(task), render_mode=mode, disable_env_checker=True)
        self._original = original.unwrapped
        assert task.spec.dt, "a native task knows its sampling time"
        self._original.metadata = {**self._original.metadata, "render_fps": 1 / task.spec.dt}

    def draw(self, task: Task, x: Float[np.ndarray, " X"], inputs: Any) -> NDArray[np.uint8] | None:
        """The state x after inputs [U], or None: in a window, or as [height, width, 3].

        `task`: with the parameters that it is drawn with. Raises UprightError if the renderer is
        not installed.
        """
        known = parameters.of(task)
        for theirs, ours in _READ.items():
            if ours in known:
                setattr(self._original, theirs, known[ours].value)
        self._original.state = x
        limit = _LARGEST_TORQUE
        self._original.last_u = None if inputs is None else float(np.clip(inputs[0], -limit, limit))
        try:
            return self._original.render()
        except gym.error.DependencyNotInstalled as error:
            missing = str(error).partition(",")[0]
            raise UprightError(f"cannot render: {missing}; {INSTALL_RENDER}") from None

    def close(self) -> None:
        self._original.close()


def _drawn_by(task: Any) -> Any:
    inner = task.task if isinstance(task, Randomised) else task
    return getattr(inner, "drawn_by", None)
