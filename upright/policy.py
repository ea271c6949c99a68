"""The policy file: one small artefact that everything after training reads, with NumPy alone.

Format: `docs/policy-format.md`. A file is data, never code: loading one can fail and do nothing
else.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upright import tensors
from upright.errors import UprightError
from upright.files import write_atomically
from upright.spec import Spec

FORMAT, VERSION = "upright-policy", 2
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
        write_atomically(Path(path), self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of the file."""
        header = {
            "spec": self.spec.to_dict(),
            "network": {"activation": "relu", "sizes": self.sizes},
            "offset": self.offset.tolist(),
            "scale": self.scale.tolist(),
            "training": self.training,
        }
        return tensors.encode(self._tensors(), FORMAT, VERSION, header)

    @classmethod
    def from_bytes(cls, content: bytes) -> "Policy":
        """The inverse of `to_bytes`; raises UprightError if the content is anything else."""
        arrays, header = tensors.decode(content, FORMAT, VERSION)
        try:
            return _decode(arrays, header)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            raise UprightError("not a policy file, or damaged") from None

    def _tensors(self) -> dict[str, Floats]:
        """Named as in torch.nn.Sequential(Linear, ReLU, Linear, ...): the ReLUs count, too."""
        names = range(0, 2 * len(self.weights), 2)
        named: dict[str, Floats] = {}
        for index, weight, bias in zip(names, self.weights, self.biases, strict=True):
            named[f"{index}.weight"] = weight
            named[f"{index}.bias"] = bias
        return named


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Reads a policy file; raises UprightError if it is missing, damaged or something else."""
    content = tensors.read(Path(path), _LARGEST_FILE)
    try:
        return Policy.from_bytes(content)
    except UprightError as error:
        raise UprightError(f"{path}: {error}") from None


def _decode(arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> Policy:
    if header["network"]["activation"] != "relu":
        raise UprightError(f"unknown activation {header['network']['activation']!r}")
    if any(array.dtype != np.float32 for array in arrays.values()):
        raise UprightError("damaged: its weights are not float32")
    layers = range(0, len(arrays), 2)
    policy = Policy(
        spec=Spec.from_dict(header["spec"]),
        weights=tuple(arrays[f"{index}.weight"] for index in layers),
        biases=tuple(arrays[f"{index}.bias"] for index in layers),
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
    inputs, outputs = policy.spec.observation_size, policy.spec.action_size
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
