"""What is changed of a task: --physics.half-length 1.0 --randomise mass=0.1:0.3 --env.wind 3."""

import json
from collections.abc import Sequence
from typing import Any

from upright.errors import UprightError


def gather(arguments: Sequence[str]) -> list[str]:
    """The arguments with each `--physics.NAME VALUE` as `NAME=VALUE` of one option --physics.

    So with `--env.NAME VALUE`.
    """
    return _gather(_gather(arguments, "--physics"), "--env")


def _gather(arguments: Sequence[str], option: str) -> list[str]:
    rest: list[str] = []
    given: list[str] = []
    following = iter(arguments)
    for argument in following:
        if argument.startswith(f"{option}."):
            name, equals, value = argument.removeprefix(f"{option}.").partition("=")
            given.append(f"{name}={value if equals else next(following, '')}")
        else:
            rest.append(argument)
    if not given:
        return rest
    if option in rest:
        place = rest.index(option) + 1
        return [*rest[:place], *given, *rest[place:]]
    return [*rest, option, *given]


def arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Arguments of an environment, by name: a number, true, false, null, or else text."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.replace("-", "_")
        if not (equals and name.isidentifier()):
            raise UprightError(f"env: {text!r} is not NAME=VALUE")
        if name in found:
            raise UprightError(f"env: {name} is given more than once")
        found[name] = _scalar(value)
    return found


def _scalar(text: str) -> Any:
    words = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = json.loads(text)
    except (RecursionError, ValueError):
        return text
    return value if isinstance(value, int | float) else text


def values(texts: Sequence[str]) -> dict[str, float | tuple[float, ...]]:
    """By name: a number, or several between commas. Raises UprightError for another form."""
    found: dict[str, float | tuple[float, ...]] = {}
    for text in texts:
        name, numbers = _split("physics", text, "NAME=VALUE", ",")
        if name in found:
            raise UprightError(f"physics: {name} is given more than once")
        found[name] = numbers if "," in text else numbers[0]
    return found


def ranges(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """By name: lowest and highest value. Raises UprightError for another form."""
    found: dict[str, tuple[float, float]] = {}
    for text in texts:
        name, numbers = _split("randomise", text, "NAME=LOW:HIGH", ":")
        if len(numbers) != 2:
            raise UprightError(f"randomise: {text!r} is not NAME=LOW:HIGH")
        if name in found:
            raise UprightError(f"randomise: {name} is given more than once")
        found[name] = (numbers[0], numbers[1])
    return found


def _split(option: str, text: str, form: str, between: str) -> tuple[str, tuple[float, ...]]:
    name, _, value = text.partition("=")
    try:
        numbers = tuple(float(number) for number in value.rstrip(between).split(between))
    except ValueError:
        raise UprightError(f"{option}: {text!r} is not {form}") from None
    return name.replace("-", "_"), numbers
