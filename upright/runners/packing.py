"""A tree of arrays as few arrays: each one in or out costs a compiled call some microseconds."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Packed = list[Any]  # all small arrays in one, then the large ones

_LARGE = 2048  # numbers; an array of more would cost more to pack than it saves


class Packing:
    """How the trees of one kind are packed; the bits stay the same."""

    def __init__(self, like: Any, large: float = _LARGE):
        """`like`: shapes and types of the leaves, of 32 bits each.

        `large`: the numbers of an array that is left alone.
        """
        self._shapes, self._structure = jax.tree.flatten(like)
        self._large = large
        self.width = sum(leaf.size for leaf in self._shapes if leaf.size <= large)

    def pack(self, tree: Any) -> Packed:
        """In a compiled program: the small leaves in one array of float32, then the large ones."""
        leaves = jax.tree.leaves(tree)
        small = [_as(leaf.ravel(), jnp.float32) for leaf in leaves if leaf.size <= self._large]
        joined = jnp.concatenate(small) if small else jnp.zeros(0)
        return [joined, *(leaf for leaf in leaves if leaf.size > self._large)]

    def unpack(self, packed: Packed) -> Any:
        """The tree that `pack` packed; of NumPy arrays, which may have leading axes, copies."""
        leaves = [
            leaf.copy() if isinstance(leaf, np.ndarray) else leaf for leaf in self.parts(packed)
        ]
        return jax.tree.unflatten(self._structure, leaves)

    def parts(self, packed: Packed) -> list[Any]:
        """The leaves; of NumPy arrays views."""
        small, *large = packed
        leaves: list[Any] = []
        first = 0
        for like in self._shapes:
            if like.size > self._large:
                leaves.append(large.pop(0))
                continue
            flat = small[..., first : first + like.size]
            leaves.append(_as(flat, like.dtype).reshape(small.shape[:-1] + like.shape))
            first += like.size
        return leaves


def one_array(like: Any) -> Packing:
    """A packing of everything into one array."""
    return Packing(like, large=math.inf)


def _as(array: Any, dtype: Any) -> Any:
    """The same bits as another type."""
    if isinstance(array, np.ndarray):
        return array.view(dtype)
    return array if array.dtype == dtype else jax.lax.bitcast_convert_type(array, dtype)
