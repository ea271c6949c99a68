"""A tree of arrays as few arrays: each one in or out costs a compiled call some microseconds."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Packed = list[Any]  # all small arrays in one, then the large ones


class Packing:
    """How the trees of one kind are packed."""

    _LARGE = 2048  # numbers; an array of more would cost more to pack than it saves

    def __init__(self, tree: Any):
        """`tree`: shapes and types of its leaves, of 32 bits each."""
        self._shapes, self._structure = jax.tree.flatten(tree)

    def pack(self, tree: Any) -> Packed:
        """All small leaves in one array, then the large ones."""
        leaves = jax.tree.leaves(tree)
        small = [_as(leaf.ravel(), jnp.float32) for leaf in leaves if leaf.size <= self._LARGE]
        return [jnp.concatenate(small), *(leaf for leaf in leaves if leaf.size > self._LARGE)]

    def unpack(self, packed: Packed) -> Any:
        """The inverse; of NumPy arrays, copies."""
        small, *large = packed
        leaves: list[Any] = []
        first = 0
        for shape in self._shapes:
            if shape.size > self._LARGE:
                leaves.append(large.pop(0))
                continue
            flat = small[first : first + shape.size]
            leaves.append(_as(flat, shape.dtype).reshape(shape.shape))
            first += shape.size
        return jax.tree.unflatten(self._structure, leaves)


def _as(array: Any, dtype: Any) -> Any:
    """The same bits as another type."""
    if isinstance(array, np.ndarray):
        return array.view(dtype).copy()
    return array if array.dtype == dtype else jax.lax.bitcast_convert_type(array, dtype)
