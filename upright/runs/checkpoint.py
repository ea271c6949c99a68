"""Checkpoints: everything about one seed at one moment; the last three are kept."""

import contextlib
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upright import tensors
from upright.errors import UprightError, VersionError
from upright.files import make_folder, write_atomically
from upright.parameters import check_settings, setting
from upright.policy import Policy
from upright.runs.folder import way_out
from upright.runs.typed import from_plain
from upright.seeds import check_seeds

FORMAT, VERSION = "upright-checkpoint", 3
_KEPT = 3
_LARGEST_FILE = 1 << 40  # bytes


@dataclass(frozen=True)
class Seal:
    """What a table began with when the checkpoint was written."""

    sha256: str
    size: int = setting(at_least=0, below=2**63)  # bytes

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Counters:
    """How far a seed is, in numbers."""

    seed: int
    settings: dict[str, Any]  # all that its result depends on; see `Config.settings`
    tables: dict[str, Seal]
    diverged: bool
    steps: int = setting(at_least=0, below=2**31)  # of the environment
    episodes: int = setting(at_least=0, below=2**31)  # finished
    written: int = setting(at_least=0, below=2**31)  # steps that the rows of its tables tell of
    returns: tuple[float, ...] = setting()  # of its latest episodes

    def __post_init__(self) -> None:
        check_settings(self)
        check_seeds([self.seed])
        if self.written > self.steps:
            raise UprightError(f"written is {self.written}; it must be at most {self.steps}")


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds; nothing of it depends on the clock or the machine."""

    counters: Counters
    state: Any  # of the runner: a tree of arrays
    unwritten: NDArray[np.float32]  # [ticks, columns], packed `StepLog`
    kept: Policy | None
    last: Policy | None


def save(folder: Path, checkpoint: Checkpoint, regular: Callable[[int], bool]) -> None:
    """Writes the checkpoint, named by its steps; removes older ones, see `prune`.

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
    prune(folder, checkpoint.counters.steps, regular)


def prune(folder: Path, steps: int, regular: Callable[[int], bool]) -> None:
    """Of those before that of so many steps, only two stay, none that an interruption made.

    `regular`: whether there is one at a step without interruptions. So the files that a training
    leaves do not tell of them.
    """
    older = [path for path in _paths(folder) if int(path.stem) < steps]
    kept = [path for path in older if regular(int(path.stem))][: _KEPT - 1]
    for path in set(older) - set(kept):
        with contextlib.suppress(OSError):  # one too many is no reason to stop
            path.unlink()


def newest(
    folder: Path,
    template: Any,
    check: Callable[[Counters], None],
    fits: Callable[[Checkpoint], None],
) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that can be read, and what is wrong with those that cannot.

    `template`: what the runner's state looks like (see `Runner.template`). `check` raises
    UprightError where a checkpoint is whole and of something else, `fits` ValueError or
    UprightError where one cannot be gone on from.
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
            found = _assemble(named, counters, template)
            fits(found)
            return found, complaints
        except (LookupError, TypeError, ValueError, UprightError):
            complaints.append(f"{path}: does not fit the settings in run.json")
    if paths:
        raise UprightError(
            f"no usable checkpoint: {'; '.join(complaints)}; {way_out(folder.parent)}"
        )
    return None, complaints


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], Counters]:
    content = tensors.read(path, _LARGEST_FILE)
    try:
        named, header = tensors.decode(content, FORMAT, VERSION)
        return named, from_plain(Counters, header["counters"])
    except UprightError as error:
        raise type(error)(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError):
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
    paths = (path for path in folder.glob("*.safetensors") if re.fullmatch("[0-9]{12}", path.stem))
    return sorted(paths, reverse=True)
