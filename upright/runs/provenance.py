"""By what command, with which versions and on which machine something was made."""

import os
import platform
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("upright", "jax", "jaxlib", "equinox", "optax", "gymnasium", "numpy", "safetensors")
_command: ContextVar[tuple[str, ...] | None] = ContextVar("command", default=None)


@dataclass(frozen=True)
class Platform:
    """Software and machine."""

    versions: dict[str, str]
    commit: str | None  # of upright, where it runs from a git checkout
    system: str
    processor: str
    cores: int | None
    device: str  # that computes, as JAX names it


def describe_platform(device: str) -> Platform:
    """Of this process; `device` as JAX names it, which is not imported here."""
    return Platform(
        versions={"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}},
        commit=_commit(),
        system=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count(),
        device=device,
    )


@contextmanager
def command_line(arguments: Sequence[str]) -> Generator[None]:
    """What is done in this context was asked for on the command line, in these words."""
    token = _command.set(tuple(arguments))
    try:
        yield
    finally:
        _command.reset(token)


def command() -> tuple[str, ...] | None:
    """The words of the command line; None where a program or a notebook called."""
    return _command.get()


def _commit() -> str | None:
    """With "+changes" if files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        # An installed copy may lie in somebody else's checkout.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes")
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
