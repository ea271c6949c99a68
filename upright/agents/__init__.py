"""One file per algorithm: pure functions of one seed, without environment, clock, files or jit.

What an agent is: `agent.py`. Agents are known by their names: "DQN".
"""

from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from typing import TYPE_CHECKING, Any

from upright.agents.settings import from_dict
from upright.errors import UprightError

if TYPE_CHECKING:
    from upright.agents.agent import Agent

# name: where its class is. Imported when it is used, since JAX starts with it.
_MODULES = {"DQN": "upright.agents.dqn"}


def agent_to_dict(agent: "Agent") -> dict[str, Any]:
    """Name and settings of an agent; plain values."""
    settings: Any = agent
    return {"name": type(agent).__name__, **asdict(settings)}


def agent_from_dict(values: Mapping[str, Any]) -> "Agent":
    """The inverse, after JSON; settings that are missing have their defaults.

    Raises UprightError if there is no such agent, or no such setting.
    """
    settings = dict(values)
    name = settings.pop("name", None)
    if not isinstance(name, str) or name not in _MODULES:
        raise UprightError(f"unknown agent {name!r}; known: {', '.join(_MODULES)}")
    return from_dict(getattr(import_module(_MODULES[name]), name), settings)
