"""How upright is called: arguments as the caller writes them, and names that he may have meant."""

import difflib
import functools
import inspect
import operator
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, cast

from upright.errors import UprightError, shown

P = ParamSpec("P")
R = TypeVar("R")

_on_command_line = False


@contextmanager
def from_command_line() -> Generator[None]:
    """In this context messages name arguments as the command line has them."""
    global _on_command_line
    before, _on_command_line = _on_command_line, True
    try:
        yield
    finally:
        _on_command_line = before


def is_from_command_line() -> bool:
    """Whether the command line calls, which has its own way to end."""
    return _on_command_line


def option(name: str, value: str | None = None) -> str:
    """An argument as the caller would write it: --task X on the command line, task="X" in Python.

    `name` as in Python; without `value` its name alone: --task, or task.
    """
    if _on_command_line:
        option = f"--{name.replace('_', '-')}"
        return option if value is None else f"{option} {value}"
    return name if value is None else f'{name}="{value}"'


def agent_settings() -> str:
    """Where the settings of agents are listed."""
    return "see --agent.* in upright train --help" if _on_command_line else "see help(upright.DQN)"


def near(name: str, known: Iterable[str]) -> str:
    """For a name that is none of those: which may be meant, else all that there are."""
    known = list(known)
    found = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f"did you mean {', '.join(found)}?" if found else f"known: {', '.join(known)}"


def names_checked(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose unknown keywords are an UprightError that names the nearest known ones."""
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    owner = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def checked(*arguments: P.args, **keywords: P.kwargs) -> R:
        for name in keywords:
            if name not in names:
                raise UprightError(f"{owner} has no argument {name!r}; {near(name, names)}")
        return function(*arguments, **keywords)

    return checked


def settings_checked(kind: type[R]) -> type[R]:
    """The same of a dataclass of settings; it takes lists for tuples, and NumPy's numbers."""
    initialise: Any = names_checked(cast(Any, kind.__init__))

    @functools.wraps(initialise)
    def plain(self: R, *arguments: Any, **keywords: Any) -> None:
        named = {name: _plain(value) for name, value in keywords.items()}
        initialise(self, *map(_plain, arguments), **named)

    kind.__init__ = plain
    return kind


def _plain(value: Any) -> Any:
    plain = value.tolist() if hasattr(value, "tolist") else value
    return tuple(plain) if isinstance(plain, list) else plain


def whole(name: str, value: Any, at_least: int) -> int:
    """A number as Python's own. Raises UprightError unless it is a whole one, and large enough."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise UprightError(f"{name} is {shown(value)}; it must be a whole number")
    if operator.index(value) < at_least:
        raise UprightError(f"{name} is {shown(value)}; it must be at least {at_least}")
    return operator.index(value)


def check_kind(name: str, value: Any, kind: Any, wanted: str) -> None:
    """Raises UprightError unless an argument is of a kind, which `wanted` says in words."""
    if not isinstance(value, kind):
        raise UprightError(f"{name} is {shown(value)}; it must be {wanted}")


def check_names(name: str, value: Any, wanted: str) -> None:
    """Raises UprightError unless an argument is a mapping whose names are text."""
    check_kind(name, value, Mapping, wanted)
    for key in value:
        if not isinstance(key, str):
            raise UprightError(f"{name} has a name {shown(key)}; it must be {wanted}")
