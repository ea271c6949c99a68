"""Settings of agents, from a file."""

from dataclasses import MISSING, fields
from typing import Any

from upright.errors import UprightError


def from_dict(kind: type[Any], values: dict[str, Any]) -> Any:
    """Settings of this kind, after JSON; what is missing has its default.

    So a file that was written before there was some setting can be read. Raises UprightError for
    a setting that there is not.
    """
    known = {declared.name: declared for declared in fields(kind)}
    unknown = [name for name in values if name not in known]
    if unknown:
        raise UprightError(f"{kind.__name__} has no setting {unknown[0]!r}")
    plain = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    missing = [n for n, d in known.items() if n not in plain and d.default is MISSING]
    if missing:
        raise UprightError(f"{kind.__name__} needs its setting {missing[0]!r}")
    return kind(**plain)
