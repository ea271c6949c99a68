"""One step of an environment, as an agent learns from it; and the same as one row of numbers."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float


class Transition(NamedTuple):
    """A step of each of E environments; more axes may lead: batches B, ticks T, updates G.

    Of JAX's arrays or NumPy's.
    """

    observation: Any  # [*E O]
    action: Any  # index [*E] or vector [*E U]
    reward: Any  # [*E]
    discount: Any  # [*E], 0 where the task terminated, 1 elsewhere, a time limit included
    next_observation: Any  # [*E O], the true one, never the one after a reset
    # [*E], by termination or by a time limit: the next row is of another episode
    ended: Any
    extras: Any  # what the agent told when it chose the action; () for nothing
    # [*E A] actions that are allowed at the next observation, at least one; None: the task has no
    # masks
    next_mask: Any = None


@dataclass(frozen=True)
class Row:
    """Trees of arrays as rows of float32: one write to add, one gather to sample.

    Whole numbers below 2^24 come back as they were.
    """

    structure: Any  # of the tree, as JAX knows trees
    shapes: tuple[tuple[int, ...], ...]  # of its leaves, without the leading axes
    dtypes: tuple[Any, ...]
    sizes: tuple[int, ...]  # numbers of each leaf
    width: int  # numbers of a row

    @staticmethod
    def of(like: Any) -> "Row":
        """`like`: shapes and types of a tree with one leading axis, of environments."""
        leaves, structure = jax.tree.flatten(like)
        shapes = tuple(leaf.shape[1:] for leaf in leaves)
        sizes = tuple(int(np.prod(shape, dtype=int)) for shape in shapes)
        dtypes = tuple(np.dtype(leaf.dtype) for leaf in leaves)
        return Row(structure, shapes, dtypes, sizes, sum(sizes))

    def pack(self, tree: Any) -> Any:
        """Rows [*B row] of a tree with leading axes *B; NumPy's of NumPy's."""
        leaves = jax.tree.leaves(tree)
        xp = leaves[0].__array_namespace__()
        lead = leaves[0].shape[: leaves[0].ndim - len(self.shapes[0])]
        flat = [
            leaf.astype(xp.float32, copy=False).reshape(*lead, size)
            for leaf, size in zip(leaves, self.sizes, strict=True)
        ]
        return xp.concatenate(flat, axis=-1)

    def unpack(self, rows: Float[Array, "*B row"]) -> Any:
        """The tree with leading axes *B that `pack` made these rows [*B row] of."""
        parts = zip(self.parts(rows), self.dtypes, strict=True)
        return jax.tree.unflatten(self.structure, [part.astype(dtype) for part, dtype in parts])

    def parts(self, rows: Any) -> list[Any]:
        """The leaves within rows [*B row]; of NumPy arrays views, to be written to."""
        ends = np.cumsum(self.sizes).tolist()
        return [
            rows[..., end - size : end].reshape(rows.shape[:-1] + shape)
            for shape, size, end in zip(self.shapes, self.sizes, ends, strict=True)
        ]
