"""Tasks by their id: upright's own, and those that a user registers."""

import contextlib
import difflib
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from upright.calling import names_checked
from upright.errors import UprightError, one_line, shown

if TYPE_CHECKING:
    from upright.tasks.task import Task

LIST = "`upright tasks` lists what is there"

Physics = Mapping[str, Any]  # values of parameters by name, each in its unit
Ranges = Mapping[str, Any]  # (lowest, highest) value of a parameter, by name


class Entry(NamedTuple):
    """What makes a task, and what is known of it without JAX, which starts with it."""

    make: "Callable[[], Task]"
    episode_steps: int | None
    solved_return: float | None
    original: str | None  # id of the task of Gymnasium's that it is


def _ours(
    module: str, name: str, steps: int, solved: float | None, original: str | None = None
) -> Entry:
    def make() -> "Task":
        return getattr(import_module(f"upright.tasks.{module}"), name)()

    return Entry(make, steps, solved, original)


_ENTRIES = {
    "Acrobot-v1": _ours("acrobot", "AcrobotTask", 500, -100.0, "Acrobot-v1"),
    "CartPole-v1": _ours("cartpole", "CartPoleTask", 500, 475.0, "CartPole-v1"),
    "CartPoleContinuous-v0": _ours("cartpole", "CartPoleContinuousTask", 500, 475.0),
    "CartPoleSwingUp-v0": _ours("cartpole_swing_up", "CartPoleSwingUpTask", 500, None),
    "MountainCar-v0": _ours("mountain_car", "MountainCarTask", 200, -110.0, "MountainCar-v0"),
    "MountainCarContinuous-v0": _ours(
        "mountain_car", "MountainCarContinuousTask", 999, 90.0, "MountainCarContinuous-v0"
    ),
    "Pendulum-v1": _ours("pendulum", "PendulumTask", 200, None, "Pendulum-v1"),
    "PendulumDiscrete-v1": _ours("pendulum", "PendulumDiscreteTask", 200, None, "Pendulum-v1"),
}
NAMES = tuple(_ENTRIES)  # of upright's own
_listeners: list[Callable[[str, Entry], None]] = []
_typed: set[str] = set()  # ids, without their modules, that the user typed with one
_folder_lock = threading.Lock()
_folder_uses: Counter[str] = Counter()  # of the folders that are on the import path for now


@names_checked
def register(name: str, make: "Callable[[], Task]") -> None:
    """Makes a task of one's own native, under an id such as "Wheel-v0".

        upright.register("Wheel-v0", WheelTask)

    It is trained in the compiled runner, and is the Gymnasium environment `upright/Wheel-v0`. In a
    module my_plant it is there for every command as `my_plant:Wheel-v0`. `make`: the task's class,
    or another function without arguments; its `spec.task` is the id. A second registration replaces
    the first.

    Raises UprightError for an id that is none or is upright's own, and for a task that does not
    fulfil the protocol: which method, which shape.
    """
    from upright.tasks.task import check_task

    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+-v\d+", name):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UprightError(f"task id {shown(name)}; it must be a name with a version, as Wheel-v0")
    if name in NAMES:
        raise UprightError(f"task id {name!r} is upright's own; choose another one")
    if not callable(make):
        raise UprightError(
            f"task {name!r} is made by {shown(make)}; it must be the task's class, or a function"
            " without arguments"
        )
    task = make()
    check_task(task)
    spec = task.spec
    if spec.task != name:
        raise UprightError(
            f"task id {name!r}: its spec says task={spec.task!r}; the two must be the same"
        )
    _ENTRIES[name] = Entry(make, spec.episode_steps, spec.solved_return, original=None)
    for listener in _listeners:
        listener(name, _ENTRIES[name])


def for_each(listener: Callable[[str, Entry], None]) -> None:
    """Calls it for every task, those that are registered later included."""
    _listeners.append(listener)
    for name, entry in _ENTRIES.items():
        listener(name, entry)


def names() -> tuple[str, ...]:
    """Ids of all native tasks, those that were registered included."""
    return tuple(_ENTRIES)


def is_native(name: str) -> bool:
    """Whether this is the id of a native task, with or without its module."""
    return bare(name) in _ENTRIES


def is_original(name: str) -> bool:
    """Whether this is a task of Gymnasium's that one of upright's own is the same as.

    Its environments are independent objects, which cannot be said of others.
    """
    return name in (entry.original for entry in _ENTRIES.values())


def bare(name: str) -> str:
    """The id without the module before it."""
    return name.rpartition(":")[2]


def load(name: str) -> str:
    """Imports the module of an id such as "my_plant:Wheel-v0", and returns the id without it.

    So the id must come from the user's own hand, never from a file. Raises UprightError if there is
    no such module, or it fails.
    """
    module, _, rest = name.rpartition(":")
    if not module:
        return name
    _typed.add(rest)
    with importable_from_here(rest):
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            raise UprightError(
                f"task {name!r}: no module {error.name!r}; is it installed, or in this folder?"
            ) from None
        except UprightError as error:
            raise UprightError(f"module {module!r}: {error}") from error
        except (Exception, SystemExit) as error:  # the user's own code
            raise UprightError(f"task {name!r} cannot be made: {one_line(error)}") from error
    return rest


def make_task(name: str, physics: Physics | None = None, randomise: Ranges | None = None) -> "Task":
    """The native task of this id, with its standard parameters but for those of `physics`.

    The parameters in `randomise` are drawn anew at each reset, between their lowest and highest
    value. Raises UprightError for an unknown id or parameter (with the nearest known ones), and for
    a value out of its bounds.
    """
    if not is_native(name):
        raise unknown_task(name, _ENTRIES)
    task: Any = _ENTRIES[bare(name)].make()
    if physics:
        from upright.tasks.parameters import change

        task = change(task, physics)
    if randomise:
        from upright.tasks.randomised import Randomised

        for key, ends in randomise.items():
            if np.shape(ends) != (2,):
                raise UprightError(
                    f"randomise: {key} is {shown(ends)}; it must be (lowest, highest)"
                )
        # In a fixed order, since each is drawn from a random key of its own.
        task = Randomised(task, tuple((key, *ends) for key, ends in sorted(randomise.items())))
    return task


def check_promises(name: str, physics: Physics, randomise: Ranges) -> None:
    """Raises UprightError if a task of the user's own does not do what its spec says.

    It ends at its time limit and mirrors as it says; upright's own are held to that by the tests.
    """
    name = bare(name).removeprefix("upright/")
    if is_native(name) and name not in NAMES:
        from upright.tasks.symmetry import check_mirror
        from upright.tasks.task import check_time_limit

        task = make_task(name, physics, randomise)
        check_time_limit(task)
        check_mirror(task)


def environment(
    name: str, physics: Physics | None = None, randomise: Ranges | None = None
) -> tuple[str, dict[str, Any]]:
    """Id of the Gymnasium environment that judges policies for a task, and its keywords.

    Of a native one with its standard physics Gymnasium's original, else our own, any other id as
    it is. Raises UprightError for changed physics of a task that is not native.
    """
    native = bare(name).removeprefix("upright/")
    if native not in _ENTRIES:
        if physics or randomise:
            raise UprightError(
                f"physics can be changed of native tasks alone, and {name!r} is none; {LIST}"
            )
        return name, {}
    changes: dict[str, Any] = {**(physics or {})}
    if randomise:
        changes["randomise"] = dict(randomise)
    original = _ENTRIES[native].original
    if original and not changes and not name.startswith("upright/"):
        return original, {}
    return f"upright/{native}", changes


def unknown_task(name: str, known: Iterable[str]) -> UprightError:
    """For an id that is none, with those among `known` that look like it."""
    lower = {other.lower(): other for other in known}
    exact = [name.lower()] if name.lower() in lower else []
    near = exact or difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.8)
    hint = f"did you mean {', '.join(lower[match] for match in near)}? " if near else ""
    return UprightError(f"unknown task {name!r}; {hint}{LIST}")


@contextlib.contextmanager
def importable_from_here(name: str) -> Generator[None]:
    """The present folder may hold modules of the user's own; installed ones go first.

    Only while a task is made whose module the user typed, since the folder may be a stranger's: for
    any other id, say of a policy file, nothing is imported from it. From any thread.
    """
    if bare(name) not in _typed:
        yield
        return
    here = os.getcwd()
    with _folder_lock:
        ours = _folder_uses[here] > 0 or not {here, ""} & set(sys.path)
        if ours and not _folder_uses[here]:
            sys.path.append(here)
        _folder_uses[here] += ours
    try:
        yield
    finally:
        with _folder_lock:
            _folder_uses[here] -= ours
            if ours and not _folder_uses[here] and here in sys.path:
                sys.path.remove(here)
