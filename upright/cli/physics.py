"""Parameters of a task on the command line: --physics.half-length 1.0 --randomise mass=0.1:0.3."""

from collections.abc import Sequence

from upright.errors import UprightError

_DOTTED = "--physics."


def gather(arguments: Sequence[str]) -> list[str]:
    """The arguments with each `--physics.NAME VALUE` as `NAME=VALUE` of one option --physics."""
    rest: list[str] = []
    given: list[str] = []
    following = iter(arguments)
    for argument in following:
        if argument.startswith(_DOTTED):
            name, equals, value = argument.removeprefix(_DOTTED).partition("=")
            given.append(f"{name}={value if equals else next(following, '')}")
        else:
            rest.append(argument)
    if not given:
        return rest
    if "--physics" in rest:
        place = rest.index("--physics") + 1
        return [*rest[:place], *given, *rest[place:]]
    return [*rest, "--physics", *given]


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
