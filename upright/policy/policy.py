"""The policy file: one small artefact that everything after training reads, with NumPy alone.

Format: `docs/policy-format.md`. A file is data, never code: loading one can fail and do nothing
else.
"""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upright import masks, plain, tensors
from upright.calling import check_kind
from upright.errors import UprightError
from upright.files import write_atomically
from upright.parameters import SMALLEST, in_single
from upright.policy.provenance import Provenance
from upright.spec import Choice, Spec

FORMAT, VERSION = "upright-policy", 3
_LARGEST_FILE = 1 << 30  # bytes

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False, repr=False)
class Policy:
    """A greedy controller: scaling, a multilayer perceptron with ReLU, and a head.

        outputs(x) = W_n relu(... relu(W_0 (x - offset) / scale + b_0) ...) + b_n

    The head makes an action of them. "argmax", of a Choice: the value whose output is the largest.
    "clip", of Continuous with U inputs: the first U outputs, each clipped to its bounds.
    """

    spec: Spec
    weights: tuple[Floats, ...]  # [out, in] each, input layer first
    biases: tuple[Floats, ...]  # [out] each
    offset: Floats  # [observation], subtracted from an observation [its units]
    scale: Floats  # [observation], divides an observation [its units]
    provenance: Provenance = field(default_factory=Provenance)

    def __repr__(self) -> str:
        origin, sizes = self.provenance, "-".join(map(str, self.sizes))
        by = f"{origin.agent}, seed {origin.seed}, step {origin.step}"
        return f"Policy({self.spec.task}: {sizes}, by {by})"

    @property
    def sizes(self) -> list[int]:
        """Units from the input to the output."""
        return [self.weights[0].shape[1], *(len(bias) for bias in self.biases)]

    @property
    def head(self) -> Literal["argmax", "clip"]:
        """How an action follows from the outputs: "argmax" of a Choice, "clip" of Continuous."""
        return "argmax" if isinstance(self.spec.action, Choice) else "clip"

    def act(
        self, observation: ArrayLike, action_mask: ArrayLike | None = None
    ) -> float | NDArray[np.float64]:
        """The action in its physical unit, to be held for `spec.dt` seconds.

        `observation`: [observation], one number for each of `spec.observation.channels`, in its
        unit; or [batch, observation]. Gives, of a Choice, u = values[argmax_i outputs_i(x)]: a
        float, or [batch]; of Continuous, u_i = min(max(outputs_i(x), minimum_i), maximum_i): [U],
        or [batch, U]. `action_mask`: as for `choose`.

            policy.act([0.0, 0.1, 0.02, -0.1])  # 10.0: push the cart with 10 N

        Raises UprightError if the shape is another or a number is not finite, and for a mask that
        is missing, wrong, or of a continuous action.
        """
        action = self.spec.action
        if isinstance(action, Choice):
            value = np.asarray(action.values)[self.choose(observation, action_mask)]
            return float(value) if np.ndim(value) == 0 else value
        if action_mask is not None:
            raise UprightError(f"{self.spec.task} has a continuous action, which has no masks")
        low = [channel.minimum for channel in action.channels]
        high = [channel.maximum for channel in action.channels]
        # In float64, where the bounds are what the spec says and not the nearest float32.
        outputs = self.outputs(observation)[..., : len(low)].astype(np.float64)
        return np.clip(outputs, low, high)

    def choose(
        self, observation: ArrayLike, action_mask: ArrayLike | None = None
    ) -> int | NDArray[np.int64]:
        """The index of the action among `spec.action.values`; of equal outputs the first.

        `observation`: [observation] or [batch, observation], as for `act`. Gives
        argmax_i outputs_i(x): an int, or ints [batch]. `action_mask`: 1 for each action that is
        allowed, 0 for the others, [action] or [batch, action]; the argmax is over the allowed ones.
        A policy of a task that masks (`spec.masked`) must be given it.

            policy.choose([0.0, 0.1, 0.02, -0.1])  # 1, of the forces -10 N and 10 N

        Raises UprightError as `act` does, and if the action is continuous: it has no index.
        """
        q = self.q_values(observation)
        if action_mask is not None:
            q = np.where(masks.checked(action_mask, q.shape), q, -np.inf)
        elif self.spec.masked:
            raise UprightError(
                f"{self.spec.task} masks its actions: give action_mask, an array of 0 and 1 of"
                f" shape {q.shape}"
            )
        index = q.argmax(axis=-1)
        return int(index) if np.ndim(index) == 0 else index

    def q_values(self, observation: ArrayLike) -> Floats:
        """How good each value of a Choice is: the expected discounted return of choosing it.

        `observation`: [observation] or [batch, observation], as for `act`. Gives outputs(x):
        [action], or [batch, action], in the unit of the reward.

            policy.q_values([0.0, 0.1, 0.02, -0.1])  # array([93.1, 94.6])

        Raises UprightError as `choose` does.
        """
        if not isinstance(self.spec.action, Choice):
            raise UprightError(
                f"{self.spec.task} has a continuous action, without index and action values; use"
                " act, which gives the physical values"
            )
        return self.outputs(observation)

    def outputs(self, observation: ArrayLike) -> Floats:
        """What the network says, before the head makes an action of it.

        `observation`: [observation] or [batch, observation], as for `act`. Gives outputs(x), the
        formula of this class: [output], or [batch, output].

            policy.outputs([0.0, 0.1, 0.02, -0.1])  # array([93.1, 94.6]), of a Choice of two

        Raises UprightError if the shape is another, a number is not finite, or so large that an
        output is not: an action that follows from a NaN would be an accident.
        """
        x = in_single(observation, "observation")
        if x.ndim not in (1, 2) or x.shape[-1] != len(self.scale):
            size = len(self.scale)
            raise UprightError(
                f"observation of shape {x.shape}: expected ({size},) or (batch, {size})"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            y = self.network(x)
        if not np.isfinite(y).all():
            raise UprightError(f"observation is too large for the network: {x.tolist()}")
        return y

    def network(self, x: Floats) -> Floats:
        """As `outputs`, without its checks: for a loop that has made them and counts every us."""
        x = (x - self.offset) / self.scale
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ weight.T + bias, np.float32(0))
        return x @ self.weights[-1].T + self.biases[-1]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the file, whole or not at all."""
        write_atomically(Path(path), self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of the file."""
        header = {
            "spec": self.spec.to_dict(),
            "network": {"activation": "relu", "sizes": self.sizes, "head": self.head},
            "offset": self.offset.tolist(),
            "scale": self.scale.tolist(),
            "provenance": asdict(self.provenance),
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
    check_kind("policy", path, str | os.PathLike, "the path of a policy file")
    content = tensors.read(Path(path), _LARGEST_FILE)
    try:
        return Policy.from_bytes(content)
    except UprightError as error:
        raise UprightError(f"{path}: {error}") from None


def _decode(arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> Policy:
    network = header["network"]
    plain.only(network, {"activation", "sizes", "head"})
    if network["activation"] != "relu":
        raise UprightError(f"unknown activation {network['activation']!r}")
    if network["head"] not in ("argmax", "clip"):
        raise UprightError(f"unknown head {network['head']!r}; known: argmax, clip")
    if any(array.dtype != np.float32 for array in arrays.values()):
        raise UprightError("damaged: its weights are not float32")
    layers = range(0, len(arrays), 2)
    policy = Policy(
        spec=Spec.from_dict(header["spec"]),
        weights=tuple(arrays[f"{index}.weight"] for index in layers),
        biases=tuple(arrays[f"{index}.bias"] for index in layers),
        offset=np.array([plain.single(number) for number in header["offset"]], np.float32),
        scale=np.array([plain.single(number) for number in header["scale"]], np.float32),
        provenance=Provenance.from_dict(header["provenance"]),
    )
    if network["head"] != policy.head:
        kind = type(policy.spec.action).__name__
        raise UprightError(f"damaged: head {network['head']!r} is none of a {kind} action")
    _check(policy, [plain.count(size) for size in network["sizes"]])
    return policy


def _check(policy: Policy, sizes: list[int]) -> None:
    """Raises UprightError unless the numbers make the network that the header names."""
    inputs, actions = policy.spec.observation_size, policy.spec.action_size
    arrays = (*policy.weights, *policy.biases, policy.offset, policy.scale)
    if not (
        len(sizes) >= 2
        and sizes[0] == inputs
        # A network of a continuous action may have more to say, such as a deviation.
        and (sizes[-1] == actions if policy.head == "argmax" else sizes[-1] >= actions)
        and [weight.shape for weight in policy.weights] == [*zip(sizes[1:], sizes, strict=False)]
        and [bias.shape for bias in policy.biases] == [(size,) for size in sizes[1:]]
        and policy.offset.shape == policy.scale.shape == (inputs,)
        and all(np.isfinite(array).all() for array in arrays)
        and (policy.scale >= SMALLEST).all()
    ):
        raise UprightError("damaged: its numbers do not make the network that its header names")
