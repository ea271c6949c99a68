"""Checkpoints: everything about all seeds at one moment, in one file; the last three are kept."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from upright import tensors
from upright.errors import UprightError, VersionError
from upright.files import make_folder, write_atomically

FORMAT, VERSION = "upright-checkpoint", 1
_KEPT = 3
_LARGEST_FILE = 1 << 40  # bytes

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds; nothing of it depends on the clock or the machine."""

    states: Mapping[int, Any]  # of each seed: a tree of arrays
    arrays: Mapping[int, Arrays]  # of each seed: what the session adds, by name
    header: Mapping[str, Any]  # plain JSON values


def save(folder: Path, steps: int, checkpoint: Checkpoint) -> None:
    """Writes the checkpoint after so many steps of all seeds together; removes the oldest.

    Raises UprightError if it cannot be written; those before it are still there then.
    """
    make_folder(folder)
    named: Arrays = {}
    for seed, state in checkpoint.states.items():
        named |= flatten(state, f"{seed}/state")
        for name, array in checkpoint.arrays[seed].items():
            named[f"{seed}/{name}"] = array
    content = tensors.encode(named, FORMAT, VERSION, checkpoint.header)
    write_atomically(folder / f"{steps:012d}.safetensors", content)
    for path in _paths(folder)[_KEPT:]:
        with contextlib.suppress(OSError):  # one too many is no reason to stop
            path.unlink()


def load(path: Path, template: Any) -> Checkpoint:
    """Reads a checkpoint whose states look like `template` (see `fleet.Driver.template`).

    Raises UprightError if it is missing, damaged, of another version or for something else.
    """
    content = tensors.read(path, _LARGEST_FILE)
    try:
        named, header = tensors.decode(content, FORMAT, VERSION)
    except UprightError as error:
        raise type(error)(f"{path}: {error}") from None
    states: dict[int, Any] = {}
    arrays: dict[int, Arrays] = {}
    try:
        for seed in map(int, header["seeds"]):
            states[seed] = unflatten(template, named, f"{seed}/state")
            arrays[seed] = {}
        for name, array in named.items():
            seed, _, rest = name.partition("/")
            arrays[int(seed)][rest] = array
    except (KeyError, TypeError, ValueError):
        raise UprightError(f"{path}: does not fit the settings in run.json") from None
    return Checkpoint(states, arrays, header)


def flatten(tree: Any, prefix: str) -> Arrays:
    """The leaves of a tree by their places, as in "prefix.agent.params.layers[0].weight"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {f"{prefix}{jax.tree_util.keystr(path)}": np.asarray(leaf) for path, leaf in leaves}


def unflatten(template: Any, named: Arrays, prefix: str) -> Any:
    """The inverse, for a tree like `template`; takes its arrays out of `named`.

    Raises KeyError or ValueError if they are not there or do not fit.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    arrays = [
        _fitting(named.pop(f"{prefix}{jax.tree_util.keystr(path)}"), leaf) for path, leaf in leaves
    ]
    return jax.tree.unflatten(structure, arrays)


def newest(folder: Path, template: Any) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that can be read, and what is wrong with those that cannot.

    None where there has not been any. Raises UprightError if there are some, and none is usable.
    """
    complaints: list[str] = []
    paths = _paths(folder)
    for path in paths:
        try:
            return load(path, template), complaints
        except VersionError:
            raise  # an older one would lose what a newer version has done
        except UprightError as error:
            complaints.append(str(error))
    if paths:
        raise UprightError(f"no usable checkpoint: {'; '.join(complaints)}")
    return None, complaints


def _paths(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("*.safetensors"), reverse=True)


def _fitting(array: NDArray[Any], leaf: Any) -> NDArray[Any]:
    """Length 0 in the template stands for any length."""
    shape = (len(array), *leaf.shape[1:]) if leaf.shape[:1] == (0,) else leaf.shape
    if array.shape != shape or array.dtype != leaf.dtype:
        raise ValueError
    return array
