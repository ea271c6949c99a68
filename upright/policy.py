"""The policy file: one small artefact that everything after training reads, with NumPy alone.

Format: `docs/policy-format.md`. A file is data, never code: loading one can fail and do nothing
else.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upright.errors import UprightError
from upright.files import write_atomically
from upright.spec import Spec

FORMAT, VERSION = "upright-policy", 1
_LARGEST_HEADER = 1 << 20  # bytes
_LARGEST_FILE = 1 << 30  # bytes

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Policy:
    """A greedy controller: scaling, a multilayer perceptron with ReLU, and an argmax.

    q_values(x) = W_n relu(... relu(W_0 (x - offset) / scale + b_0) ...) + b_n
    """

    spec: Spec
    weights: tuple[Floats, ...] = field(repr=False)  # [out, in] each, input layer first
    biases: tuple[Floats, ...] = field(repr=False)  # [out] each
    offset: Floats  # [observation], subtracted from an observation [its units]
    scale: Floats  # [observation], divides an observation [its units]
    # where it comes from: agent, seed, step, evaluation
    training: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def sizes(self) -> list[int]:
        """Units from the input to the output."""
        return [self.weights[0].shape[1], *(len(bias) for bias in self.biases)]

    def q_values(self, observation: ArrayLike) -> Floats:
        """Action values [action] of an observation [observation], or with a leading batch axis.

        Raises UprightError if the shape is another or a number is not finite: an action that
        follows from a NaN would be an accident.
        """
        x = np.asarray(observation, dtype=np.float32)
        if x.ndim not in (1, 2) or x.shape[-1] != len(self.scale):
            size = len(self.scale)
            raise UprightError(
                f"observation of shape {x.shape}: expected ({size},) or (batch, {size})"
            )
        if not np.isfinite(x).all():
            raise UprightError(f"observation is not finite: {x.tolist()}")
        x = (x - self.offset) / self.scale
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ weight.T + bias, np.float32(0))
        return x @ self.weights[-1].T + self.biases[-1]

    def act(self, observation: ArrayLike) -> Any:
        """The action of greatest value: an int, or ints [batch]; of equal values the first."""
        action = self.q_values(observation).argmax(axis=-1)
        return int(action) if np.ndim(action) == 0 else action

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the file, whole or not at all."""
        # Only a machine that trains writes; the library is not needed where a policy is read.
        from safetensors.numpy import save

        tensors = self._tensors()
        header = {
            "format": FORMAT,
            "version": VERSION,
            "spec": self.spec.to_dict(),
            "network": {"activation": "relu", "sizes": self.sizes},
            "offset": self.offset.tolist(),
            "scale": self.scale.tolist(),
            "training": self.training,
            "tensors_sha256": _digest(tensors),
        }
        # One entry: the library writes several in an order that changes from time to time.
        write_atomically(Path(path), save(tensors, {"upright": _seal(header)}))

    def _tensors(self) -> dict[str, Floats]:
        """Named as in torch.nn.Sequential(Linear, ReLU, Linear, ...): the ReLUs count, too."""
        names = range(0, 2 * len(self.weights), 2)
        tensors: dict[str, Floats] = {}
        for index, weight, bias in zip(names, self.weights, self.biases, strict=True):
            tensors[f"{index}.weight"] = np.ascontiguousarray(weight)
            tensors[f"{index}.bias"] = bias
        return tensors


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Reads a policy file; raises UprightError if it is missing, damaged or something else."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise UprightError(f"{path}: cannot be read (not a file)")
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise UprightError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return _decode(content)
    except UprightError as error:
        raise UprightError(f"{path}: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        raise UprightError(f"{path}: not a policy file, or damaged") from None


def _decode(content: bytes) -> Policy:
    if len(content) > _LARGEST_FILE:
        raise UprightError("larger than a policy file can be")
    tensors, metadata = _read_safetensors(content)
    if "upright" not in metadata:
        raise UprightError("a safetensors file, but not a policy of upright")
    header = _unseal(metadata["upright"])
    if header["format"] != FORMAT:
        raise UprightError(f"its format is {header['format']!r}, not {FORMAT!r}")
    if header["version"] != VERSION:
        raise UprightError(
            f"policy format {header['version']}; this version of upright reads {VERSION}"
        )
    if header["tensors_sha256"] != _digest(tensors):
        raise UprightError("damaged: its weights do not match their checksum")
    if header["network"]["activation"] != "relu":
        raise UprightError(f"unknown activation {header['network']['activation']!r}")
    layers = range(0, len(tensors), 2)
    policy = Policy(
        spec=Spec.from_dict(header["spec"]),
        weights=tuple(tensors[f"{index}.weight"] for index in layers),
        biases=tuple(tensors[f"{index}.bias"] for index in layers),
        offset=np.array(header["offset"], np.float32),
        scale=np.array(header["scale"], np.float32),
        training=_training(header["training"]),
    )
    _check(policy, header["network"]["sizes"])
    return policy


def _training(fields: dict[str, Any]) -> dict[str, Any]:
    numbers = [fields.get("step", 0), *fields.get("evaluation", {}).values()]
    if not all(isinstance(number, int | float) for number in numbers):
        raise ValueError("training")
    return dict(fields)


def _check(policy: Policy, sizes: list[int]) -> None:
    """Raises UprightError unless the numbers make the network that the header names."""
    inputs, outputs = policy.spec.observation_size, policy.spec.action_count
    arrays = (*policy.weights, *policy.biases, policy.offset, policy.scale)
    if not (
        len(sizes) >= 2
        and (sizes[0], sizes[-1]) == (inputs, outputs)
        and [weight.shape for weight in policy.weights] == [*zip(sizes[1:], sizes, strict=False)]
        and [bias.shape for bias in policy.biases] == [(size,) for size in sizes[1:]]
        and policy.offset.shape == policy.scale.shape == (inputs,)
        and all(np.isfinite(array).all() for array in arrays)
        and (policy.scale > 0).all()
    ):
        raise UprightError("damaged: its numbers do not make the network that its header names")


def _seal(header: dict[str, Any]) -> str:
    """JSON whose last member, sha256, is the digest of the text without it."""
    text = json.dumps(header, allow_nan=False)
    return f'{text[:-1]}, "sha256": "{hashlib.sha256(text.encode()).hexdigest()}"}}'


def _unseal(sealed: str) -> dict[str, Any]:
    text, _, digest = sealed.rpartition(', "sha256": ')
    text += "}"
    if digest != f'"{hashlib.sha256(text.encode()).hexdigest()}"}}':
        raise UprightError("damaged: its header does not match its checksum")
    return json.loads(text)


def _digest(tensors: dict[str, Floats]) -> str:
    """SHA-256 of the little-endian bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(np.ascontiguousarray(tensors[name], "<f4").tobytes())
    return digest.hexdigest()


def _read_safetensors(content: bytes) -> tuple[dict[str, Floats], dict[str, str]]:
    """Tensors and metadata of a safetensors file that holds float32 alone.

    The library is not used here so that a robot needs NumPy and nothing else. The format is eight
    bytes of header length, a JSON header, and the tensors' bytes; every offset is checked.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(_LARGEST_HEADER, len(content) - 8):
        raise UprightError("not a policy file, or cut off")
    header = cast(dict[str, Any], json.loads(content[8 : 8 + length].decode()))
    metadata = header.pop("__metadata__", {})
    data = content[8 + length :]
    tensors: dict[str, Floats] = {}
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        shape = tuple(int(size) for size in entry["shape"])
        begin, stop = entry["data_offsets"]
        if entry["dtype"] != "F32" or begin != end or stop - begin != 4 * np.prod(shape, dtype=int):
            raise UprightError(f"damaged: tensor {name!r} does not fit the file")
        if stop > len(data):
            raise UprightError("cut off: it ends before its tensors do")
        tensors[name] = np.frombuffer(data[begin:stop], "<f4").reshape(shape)
        end = stop
    if end != len(data):
        raise UprightError("damaged: it goes on after its tensors")
    return tensors, metadata
