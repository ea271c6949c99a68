"""What a check says."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["problem", "advice", "fine"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    severity: Severity
    seen: str  # with numbers
    fix: str = ""  # what to do, unless all is fine
