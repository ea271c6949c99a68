"""Checkpoints: everything about one seed at one moment; the last three are kept."""

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upright import tensors
from upright.errors import UprightError, VersionError
from upright.files import make_folder, write_atomically
from upright.policy import Policy
from upright.runs.typed import from_plain

FORMAT, VERSION = "upright-checkpoint", 2
_KEPT = 3
_LARGEST_FILE = 1 << 40  # bytes


@dataclass(frozen=True)
class Counters:
    """How far a seed is, in numbers."""

    seed: int
    settings: dict[str, Any]  # all that its result depends on; see `Config.settings`
    sizes: dict[str, int]  # of its tables [bytes]
    diverged: bool
    steps: int  # of the environment
    episodes: int  # finished
    written: int  # steps that the rows of its tables tell of
    returns: tuple[float, ...]  # of its latest episodes


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds; nothing of it depends on the clock or the machine."""

    counters: Counters
    state: Any  # of the runner: a tree of arrays
    unwritten: NDArray[np.float32]  # [ticks, columns], packed `StepLog`
    kept: Policy | None
    last: Policy | None


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes the checkpoint, named by its steps; removes the oldest.

    Raises UprightError if it cannot be written; those before it are still there then.
    """
    make_folder(folder)
    named = tensors.flatten(checkpoint.state, "state")
    named["unwritten"] = checkpoint.unwritten
    for name, policy in (("kept", checkpoint.kept), ("last", checkpoint.last)):
        if policy:
            named[name] = np.frombuffer(policy.to_bytes(), np.uint8)
    content = tensors.encode(named, FORMAT, VERSION, {"counters": asdict(checkpoint.counters)})
    write_atomically(folder / f"{checkpoint.counters.steps:012d}.safetensors", content)
    for path in _paths(folder)[_KEPT:]:
        with contextlib.suppress(OSError):  # one too many is no reason to stop
            path.unlink()


def newest(
    folder: Path, template: Any, check: Callable[[Counters], None]
) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that can be read, and what is wrong with those that cannot.

    `template`: what the runner's state looks like (see `Runner.template`). `check` raises
    UprightError where a checkpoint is whole and of something else.
    None where there has not been any. Raises UprightError if there are some, and none is usable.
    """
    complaints: list[str] = []
    paths = _paths(folder)
    for path in paths:
        try:
            named, counters = _read(path)
        except VersionError:
            raise  # an older one would lose what a newer version has done
        except UprightError as error:
            complaints.append(str(error))
            continue
        check(counters)
        try:
            return _assemble(named, counters, template), complaints
        except (KeyError, TypeError, ValueError, UprightError):
            complaints.append(f"{path}: does not fit the settings in run.json")
    if paths:
        raise UprightError(f"no usable checkpoint: {'; '.join(complaints)}")
    return None, complaints


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], Counters]:
    content = tensors.read(path, _LARGEST_FILE)
    try:
        named, header = tensors.decode(content, FORMAT, VERSION)
        return named, from_plain(Counters, header["counters"])
    except UprightError as error:
        raise type(error)(f"{path}: {error}") from None
    except (KeyError, TypeError):
        raise UprightError(f"{path}: not a checkpoint of one seed, or damaged") from None


def _assemble(named: dict[str, NDArray[Any]], counters: Counters, template: Any) -> Checkpoint:
    policies = {
        name: Policy.from_bytes(named[name].tobytes()) for name in ("kept", "last") if name in named
    }
    return Checkpoint(
        counters,
        state=tensors.unflatten(template, named, "state"),
        unwritten=named["unwritten"],
        kept=policies.get("kept"),
        last=policies.get("last"),
    )


def _paths(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("*.safetensors"), reverse=True)
