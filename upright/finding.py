"""What a check says."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from upright.errors import UprightError

Severity = Literal["problem", "advice", "fine"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    severity: Severity
    seen: str  # with numbers
    fix: str = ""  # what to do, unless all is fine


class UnfitError(UprightError):
    """A task that exists, and that nobody can learn from as it is."""

    check: ClassVar[str]  # that finds it

    def __init__(self, task: str, seen: str, fix: str):
        super().__init__(f"task {task!r}: {seen}; {fix}")
        self.finding = Finding(self.check, "problem", seen, fix)
