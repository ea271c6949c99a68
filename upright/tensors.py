"""Named arrays and a JSON header in one file: what policies and checkpoints are made of.

The container is safetensors. It is read by our own strict reader, so that a robot needs NumPy and
nothing else, and so that a stranger's file can fail to load and can do nothing else.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upright import plain
from upright.errors import UprightError, VersionError
from upright.files import reason

_LARGEST_HEADER = 1 << 28  # bytes
_DTYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I32": "<i4",
    "U32": "<u4",
    "I64": "<i8",
    "F32": "<f4",
    "F64": "<f8",
}

Tensors = Mapping[str, NDArray[Any]]


def encode(tensors: Tensors, kind: str, version: int, header: Mapping[str, Any]) -> bytes:
    """A file of this kind and version; every byte of it is under a checksum."""
    # Only a machine that trains writes; the library is not needed where a policy is read.
    from safetensors.numpy import save

    sealed = _seal(
        {"format": kind, "version": version, **header, "tensors_sha256": _digest(tensors)}
    )
    # One entry: the library writes several in an order that changes from time to time.
    # Not ascontiguousarray, which makes a vector of a scalar.
    contiguous = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    return save(contiguous, {"upright": sealed})


def read(path: Path, largest: int) -> bytes:
    """The content of a file of at most `largest` bytes; raises UprightError if that fails."""
    try:
        if path.exists() and not path.is_file():
            raise UprightError(f"{path}: cannot be read (not a file)")
        with path.open("rb") as file:
            content = file.read(min(largest, os.fstat(file.fileno()).st_size) + 1)
    except (OSError, ValueError) as error:
        raise UprightError(f"{path}: cannot be read ({reason(error)})") from None
    if len(content) > largest:
        raise UprightError(f"{path}: larger than such a file can be")
    return content


def decode(
    content: bytes, kind: str, version: int
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Tensors and header of a file of this kind and version.

    Raises UprightError if it is damaged or something else.
    """
    name = kind.removeprefix("upright-")
    try:
        return _decode(content, kind, version)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        raise UprightError(f"not a {name} file, or damaged") from None


def flatten(tree: Any, prefix: str) -> dict[str, NDArray[Any]]:
    """The leaves of a tree by their places, as in "prefix.agent.params.layers[0].weight"."""
    import jax  # only a machine that trains has trees

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {f"{prefix}{jax.tree_util.keystr(path)}": np.asarray(leaf) for path, leaf in leaves}


def unflatten(template: Any, named: dict[str, NDArray[Any]], prefix: str) -> Any:
    """The inverse, for a tree like `template`; takes its arrays out of `named`.

    Raises KeyError or ValueError if they are not there or do not fit.
    """
    import jax

    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    arrays = [
        _fitting(named.pop(f"{prefix}{jax.tree_util.keystr(path)}"), leaf) for path, leaf in leaves
    ]
    return jax.tree.unflatten(structure, arrays)


def _fitting(array: NDArray[Any], leaf: Any) -> NDArray[Any]:
    """Length 0 in the template stands for any length."""
    shape = (len(array), *leaf.shape[1:]) if leaf.shape[:1] == (0,) else leaf.shape
    if array.shape != shape or array.dtype != leaf.dtype:
        raise ValueError
    return array


def _decode(
    content: bytes, kind: str, version: int
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    name = kind.removeprefix("upright-")
    tensors, metadata = _read_safetensors(content, name)
    if "upright" not in metadata:
        raise UprightError(f"a safetensors file, but not a {name} of upright")
    header = _unseal(metadata["upright"])
    if (found := plain.typed(header["format"], str)) != kind:
        raise UprightError(f"its format is {found!r}, not {kind!r}")
    if (found := plain.count(header["version"])) != version:
        raise VersionError(f"{name} format {found}; this version of upright reads {version}")
    if header["tensors_sha256"] != _digest(tensors):
        raise UprightError("damaged: its tensors do not match their checksum")
    return tensors, header


def _seal(header: dict[str, Any]) -> str:
    """JSON whose last member, sha256, is the digest of the text without it."""
    text = json.dumps(header, allow_nan=False)
    return f'{text[:-1]}, "sha256": "{hashlib.sha256(text.encode()).hexdigest()}"}}'


def _unseal(sealed: str) -> dict[str, Any]:
    text, _, digest = sealed.rpartition(', "sha256": ')
    text += "}"
    if digest != f'"{hashlib.sha256(text.encode()).hexdigest()}"}}':
        raise UprightError("damaged: its header does not match its checksum")
    return plain.typed(plain.parse(text), dict)


def _digest(tensors: Tensors) -> str:
    """SHA-256 over name, type, shape and little-endian bytes of all tensors, ordered by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        little = np.asarray(tensor, tensor.dtype.newbyteorder("<"), order="C")
        digest.update(f"{name} {little.dtype.str} {list(tensor.shape)}\n".encode())
        digest.update(little.data)
    return digest.hexdigest()


def _read_safetensors(content: bytes, kind: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Tensors and metadata.

    The format is eight bytes of header length, a JSON header, and the tensors' bytes; every offset
    is checked.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(_LARGEST_HEADER, len(content) - 8):
        raise UprightError(f"not a {kind} file, or cut off")
    header: dict[str, Any] = plain.typed(plain.parse(content[8 : 8 + length]), dict)
    metadata: dict[str, str] = header.pop("__metadata__", {})
    data = memoryview(content)[8 + length :]
    tensors: dict[str, NDArray[Any]] = {}
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        plain.only(entry, {"shape", "data_offsets", "dtype"})
        shape = tuple(map(plain.count, entry["shape"]))
        begin, stop = map(plain.count, entry["data_offsets"])
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        if begin != end or stop - begin != dtype.itemsize * math.prod(shape):
            raise UprightError(f"damaged: tensor {name!r} does not fit the file")
        if stop > len(data):
            raise UprightError("cut off: it ends before its tensors do")
        if dtype == np.bool_ and set(data[begin:stop]) - {0, 1}:
            raise UprightError(f"damaged: tensor {name!r} has other truth values than 0 and 1")
        tensors[name] = np.frombuffer(data[begin:stop], dtype).reshape(shape)
        end = stop
    if end != len(data):
        raise UprightError("damaged: it goes on after its tensors")
    return tensors, metadata
