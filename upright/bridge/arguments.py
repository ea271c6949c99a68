"""Arguments of an environment itself, for gymnasium.make."""

import math
from collections.abc import Mapping
from typing import Any

from upright.calling import check_names, option
from upright.errors import UprightError, shown


def check_env(env: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an environment, as JSON has them; raises UprightError for what it has not."""
    check_names("env", env, "the environment's arguments by name, as {'gravity': -5.0}")
    plain = {name: v.item() if hasattr(v, "item") else v for name, v in env.items()}
    for name, value in plain.items():
        if name in ("id", "disable_env_checker", "render_mode"):
            raise UprightError(
                f"env: {name} is upright's to set; for a window there is {option('render')}"
            )
        scalar = value is None or isinstance(value, str | bool | int | float)
        if not scalar or (isinstance(value, float) and not math.isfinite(value)):
            raise UprightError(
                f"env: {name} is {shown(value)}; it must be a finite number, True or False, text or"
                " None"
            )
    return plain
