"""Reinforcement learning for robot and control developers.

Names are imported when they are first used: `upright.load_policy` needs NumPy alone, and only
training starts JAX.
"""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upright.agents.dqn import DQN as DQN
    from upright.cli.show import show as show
    from upright.diagnosis import doctor as doctor
    from upright.errors import UprightError as UprightError
    from upright.evaluation.episodes import evaluate as evaluate
    from upright.figures.curves import plot as plot
    from upright.figures.video import play as play
    from upright.online.learner import Learner as Learner
    from upright.parameters import Parameters as Parameters
    from upright.parameters import parameter as parameter
    from upright.policy import Policy as Policy
    from upright.policy import load_policy as load_policy
    from upright.runs import Run as Run
    from upright.runs import find_runs as find_runs
    from upright.spec import Channel as Channel
    from upright.spec import Choice as Choice
    from upright.spec import Continuous as Continuous
    from upright.spec import Mirror as Mirror
    from upright.spec import Spec as Spec
    from upright.spec import Vector as Vector
    from upright.tasks.catalogue import register as register
    from upright.training.merge import merge as merge
    from upright.training.train import resume as resume
    from upright.training.train import train as train

__version__ = "0.1.0"

# Not by lazy_loader, which would do the same: a robot that loads a policy has NumPy and no more.
_HOMES = {
    "Channel": "upright.spec",
    "Choice": "upright.spec",
    "Continuous": "upright.spec",
    "doctor": "upright.diagnosis",
    "DQN": "upright.agents.dqn",
    "evaluate": "upright.evaluation.episodes",
    "find_runs": "upright.runs",
    "Learner": "upright.online.learner",
    "load_policy": "upright.policy",
    "merge": "upright.training.merge",
    "Mirror": "upright.spec",
    "parameter": "upright.parameters",
    "Parameters": "upright.parameters",
    "play": "upright.figures.video",
    "plot": "upright.figures.curves",
    "Policy": "upright.policy",
    "register": "upright.tasks.catalogue",
    "resume": "upright.training.train",
    "Run": "upright.runs",
    "show": "upright.cli.show",
    "Spec": "upright.spec",
    "train": "upright.training.train",
    "UprightError": "upright.errors",
    "Vector": "upright.spec",
}

__all__ = [*_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


class _AfterGymnasium(MetaPathFinder):
    """Registers upright/CartPole-v1 and the others as soon as somebody imports Gymnasium.

    Whoever does not use Gymnasium is not made to import it: that alone would take as long as
    loading a policy does.
    """

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != "gymnasium":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                import_module("upright.bridge")

            spec.loader.exec_module = execute_and_register
        return spec


if "gymnasium" in sys.modules:
    import_module("upright.bridge")
else:
    sys.meta_path.insert(0, _AfterGymnasium())


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'upright' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
