"""What environments give, as what agents take: each value is checked, and said what is wrong with.

The reasons are those of real environments: rewards that are arrays, text or None, observations of
another shape than their space says, Gym's old API.
"""

import numbers
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upright import masks
from upright.calling import option
from upright.errors import UprightError, foreign, kind_and_text, shown
from upright.parameters import LARGEST, in_single

_FIVE = "it must give observation, reward, terminated, truncated, info"
_OLD = "that is Gym's old API; Gymnasium's is needed, shimmy's GymV21CompatibilityV0 converts"


class EnvironmentFailedError(UprightError):
    """An environment raised an error, or gave what it may not; the message says in which call."""

    def __init__(self, call: str, what: str, hint: str = ""):
        self.what = f"the environment's {what}"
        super().__init__(f"{self.what}; {hint}" if hint else self.what)
        self.call = call  # make, reset, step, render


def raised(call: str, error: BaseException) -> EnvironmentFailedError:
    """What an environment's own code raised; Ctrl-C goes on."""
    text = foreign(error)
    if isinstance(error, ValueError) and "values to unpack (expected 5, got 4" in text:
        return EnvironmentFailedError(call, f"step gives 4 values, not 5: {_OLD}")
    if call == "step" and isinstance(error, ValueError) and "to unpack (expected 5" in text:
        return EnvironmentFailedError(call, f"step does not give 5 values: {text}", _FIVE)
    if isinstance(error, TypeError) and "unexpected keyword argument 'seed'" in text:
        return EnvironmentFailedError(call, f"reset takes no seed: {_OLD}")
    aside = threading.current_thread() is not threading.main_thread()
    minds = aside and any(word in text.lower() for word in ("thread", "event loop"))
    single = option("environments", "one")
    hint = f"if it needs the main thread: one seed, with {single}" if minds else ""
    return EnvironmentFailedError(call, f"{call} raised {kind_and_text(error)}", hint)


def reset_answer(answer: Any) -> tuple[Any, dict[str, Any]]:
    """Observation and info of a reset."""
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], dict):
        return answer
    if isinstance(answer, np.ndarray | list):
        raise EnvironmentFailedError("reset", f"reset gives an observation alone: {_OLD}")
    what = f"reset gives {_named(answer)}; it must give an observation and a dict"
    raise EnvironmentFailedError("reset", what)


def step_answer(answer: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
    """Observation, reward, terminated, truncated and info of a step."""
    if isinstance(answer, tuple) and len(answer) == 5:
        return answer
    if isinstance(answer, tuple) and len(answer) == 4:
        raise EnvironmentFailedError("step", f"step gives 4 values, not 5: {_OLD}")
    raise EnvironmentFailedError("step", f"step gives {_named(answer)}", _FIVE)


def observation(call: str, value: Any, size: int) -> NDArray[np.float32]:
    """A vector of finite numbers, always a new one: environments may use theirs again."""
    flat = _numbers(call, value, "observation").ravel()
    if len(flat) != size:
        shape = np.shape(value)
        what = f"observation has shape {shape}, {len(flat)} numbers; its space has {size}"
        raise EnvironmentFailedError(call, what)
    return flat


def reward(value: Any) -> float:
    """A finite number; an array of one is one."""
    if isinstance(value, float) and -LARGEST <= value <= LARGEST:
        return float(value)
    one = _only(value)
    if np.shape(_numbers("step", one, "reward")):
        raise EnvironmentFailedError("step", f"reward is {_named(value)}; it must be one number")
    return float(one)


def flag(name: str, value: Any) -> bool:
    """`terminated` or `truncated`: many environments give NumPy's booleans, or 0 and 1."""
    if value is True or value is False:
        return value
    one = _only(value)
    if isinstance(one, numbers.Integral):
        return bool(one)
    raise EnvironmentFailedError("step", f"{name} is {_named(value)}; it must be True or False")


def mask(call: str, value: Any, count: int, expected: bool) -> NDArray[np.bool_]:
    """Which of so many actions are allowed; `expected`: the first reset gave a mask, too."""
    if (value is not None) != expected:
        here, first = ("no", "one") if expected else ("an", "none")
        what = f"{call} gives {here} action_mask, and the first reset gave {first}"
        raise EnvironmentFailedError(call, f"{what}; give it in reset and in each step")
    try:
        return masks.checked(value, (count,))
    except UprightError as error:
        raise EnvironmentFailedError(call, str(error)) from None


def picture(value: Any) -> NDArray[np.uint8]:
    """A frame [height, width, 3]; a fourth channel, opacity, is left out."""
    if not isinstance(value, np.ndarray):
        what = f"render gives {_named(value)}; it must give an array of one frame"
        raise EnvironmentFailedError("render", what)
    if value.ndim != 3 or value.shape[2] not in (3, 4) or not value.size:
        what = f"render gives an array of shape {value.shape}; it must be (height, width, 3)"
        raise EnvironmentFailedError("render", what)
    if value.dtype != np.uint8:
        what = f"render gives numbers of type {value.dtype}; they must be uint8, from 0 to 255"
        raise EnvironmentFailedError("render", what)
    return value[..., :3]


def _numbers(call: str, value: Any, what: str) -> NDArray[np.float32]:
    """A copy, see `in_single`."""
    try:
        return in_single(value, what)
    except UprightError as error:
        raise EnvironmentFailedError(call, str(error)) from None


def _only(value: Any) -> Any:
    """The number in an array of one, be it NumPy's, JAX's or PyTorch's; else the value itself."""
    if isinstance(value, np.datetime64 | np.timedelta64) or np.ma.is_masked(value):
        return value  # a number in it would be one of days, or of nanoseconds; or is no number
    try:
        return value.item()
    except Exception:  # it has none, or several
        return value


def _named(value: Any) -> str:
    """A value with its type; None and short text speak for themselves."""
    if value is None:
        return "None"
    return f"{shown(value)} ({type(value).__name__})"
