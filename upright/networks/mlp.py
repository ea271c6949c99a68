"""Networks, for one input; batched outside, by vmap or by a leading axis."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import NDArray


class Linear(eqx.Module):
    """y = x W + b.

    W is [in, out], not [out, in] as in equinox.nn.Linear: XLA's CPU backend transposes the latter
    again for every product, a fifth of the time of a gradient step of a 128-128 network.
    """

    weight: Float[Array, "in out"]
    bias: Float[Array, " out"]

    def __init__(self, size_in: int, size_out: int, key: PRNGKeyArray):
        """Uniform within +-1/sqrt(in), weight and bias: what torch.nn.Linear starts from."""
        weight_key, bias_key = jax.random.split(key)
        bound = 1 / math.sqrt(size_in)
        self.weight = jax.random.uniform(
            weight_key, (size_in, size_out), minval=-bound, maxval=bound
        )
        self.bias = jax.random.uniform(bias_key, (size_out,), minval=-bound, maxval=bound)

    def __call__(self, x: Float[Array, "... in"]) -> Float[Array, "... out"]:
        return x @ self.weight + self.bias


class MLP(eqx.Module):
    """Linear layers with ReLU between them."""

    layers: tuple[Linear, ...]

    def __init__(self, sizes: Sequence[int], key: PRNGKeyArray):
        """`sizes`: units of the input, of each hidden layer, of the output."""
        keys = jax.random.split(key, len(sizes) - 1)
        self.layers = tuple(map(Linear, sizes[:-1], sizes[1:], keys))

    def __call__(self, x: Float[Array, "... in"]) -> Float[Array, "... out"]:
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)

    def to_numpy(self) -> tuple[tuple[NDArray[np.float32], ...], tuple[NDArray[np.float32], ...]]:
        """What a policy is made of: weights, [out, in] as in torch.nn.Linear, and biases [out]."""
        weights = tuple(np.asarray(layer.weight).T.copy() for layer in self.layers)
        return weights, tuple(np.asarray(layer.bias).copy() for layer in self.layers)
