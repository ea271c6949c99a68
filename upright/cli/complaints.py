"""What is wrong with a command line, in one line of plain words."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from itertools import pairwise
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from upright.errors import UprightError

# What the parser says, and what we say instead. The first group is an option, the second a value.
_WORDS = (
    (r"Missing from [^:]*: (--)?(\S+).*", r"\1\2 is missing"),
    (r"Missing value for argument '([^']+)'.*", r"\1 needs a value"),
    (r"Error parsing (\S+): no type matching \{None\}\|INT .* from \['(.*)'\]", r"\1 is '\2'; INT"),
    (r"Error parsing (\S+): invalid literal for int\(\) .*: '(.*)'", r"\1 is '\2'; INT"),
    (r"Error parsing (\S+): could not convert string to float: '(.*)'", r"\1 is '\2'; FLOAT"),
    (r"Error parsing (\S+): Could not find valid parse .*: \[(.*)\]", r"\1 is \2; INTS"),
    (r"invalid choice (.*) for argument '(.*)'\. Expected one of \((.*)\)", r"\2 is \1; CHOICE \3"),
)
_WANTED = {
    "INT": "it must be a whole number, as 10000",
    "INTS": "it must be whole numbers with spaces between them, as 64 64",
    "FLOAT": "it must be a number, as 0.001",
    "CHOICE": "it must be one of",
}


def plain_words(box: str, command: Any, arguments: Sequence[str]) -> str:
    """What tyro says in a box of several lines, as the one line that we promise."""
    said = _first_paragraph(box)
    if said.startswith("Unrecognized options:"):
        return _unknown(said.removeprefix("Unrecognized options: "), command, arguments)
    for pattern, ours in _WORDS:
        if re.fullmatch(rf"{pattern}\.?", said):
            said = re.sub(rf"{pattern}\.?", ours, said)
            for word, wanted in _WANTED.items():
                said = re.sub(rf"; {word}\b", f"; {wanted}", said)
            return re.sub(r"'None', |, 'None'", "", said)
    return said.rstrip(".")


def check_values(command: Any, arguments: Sequence[str]) -> None:
    """Raises UprightError for an option that takes any number of values, and is given none.

    The parser would take that for an empty list, which nobody means.
    """
    several = {name for name, kind in _options(command).items() if get_origin(kind) is tuple}
    for argument, following in pairwise([*arguments, "--"]):
        if argument in several and following.startswith("--"):
            raise UprightError(f"{argument} needs a value")


def _unknown(listed: str, command: Any, arguments: Sequence[str]) -> str:
    """The first one that is none, and the option that looks like it."""
    first = next((given for given in arguments if listed.startswith(given) and given), listed)
    if not first.startswith("-"):
        return f"{first!r} is one value too many"
    name = first.partition("=")[0]
    known = _options(command)
    near = difflib.get_close_matches(name.replace("_", "-"), known, n=1)
    same = [option for option in known if option.endswith("." + name.lstrip("-"))]
    hint = "".join(f"; did you mean {option}?" for option in [*same, *near][:1])
    return f"there is no option {name}{hint}"


def _options(command: Any, prefix: str = "--") -> dict[str, Any]:
    """The type of each option of a dataclass, those of its groups included."""
    import tyro

    found: dict[str, Any] = {}
    for name, hint in get_type_hints(command, include_extras=True).items():
        kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if is_dataclass(kind):
            found |= _options(kind, f"{prefix}{name}.")
        elif not any(note is tyro.conf.Positional for note in notes):
            found[prefix + name.replace("_", "-")] = kind
    return found


def _first_paragraph(box: str) -> str:
    words: list[str] = []
    lines = (line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:])  # below the title
    for line in filter(None, lines):
        # The rules are dashes where the terminal has no box characters.
        if set(line) <= {"─", "-"} or line == "Got errors:":
            if words:
                break
        else:
            words.append(line)
    return " ".join(words)
