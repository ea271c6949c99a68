"""What a memory is: kept within a compiled program, or on the host beside one."""

from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import PRNGKeyArray

from upright.memory.transition import Transition


@runtime_checkable
class Memory(Protocol):
    """Pure functions of one seed; `content` is a tree of arrays.

    A memory is made by `Agent.memory(like)` for transitions of one shape.
    """

    # What was learned from is not learned from again.
    forgets: ClassVar[bool]

    def init(self) -> Any:
        """The content before the first transition."""
        ...

    def add(self, content: Any, transition: Transition) -> Any:
        """With the transition of one more tick, of E environments."""
        ...

    def due(self, added: Any) -> Any:
        """Learn now, after so many transitions in all? [] to []

        Of the count alone: the host knows it without asking the program.
        """
        ...

    def draw(self, key: PRNGKeyArray) -> Any:
        """What `sample` leaves to chance."""
        ...

    def sample(self, content: Any, randomness: Any) -> Any:
        """What to learn from, packed; `unpack` makes transitions of it."""
        ...

    def unpack(self, sampled: Any) -> Transition:
        """The transitions that `sample` packed, here or on the host."""
        ...

    def stored(self, content: Any) -> Any:
        """Without what was never written, for a file; NumPy arrays."""
        ...

    def restored(self, stored: Any) -> Any:
        """The content again, of full size, from what `stored` gave."""
        ...

    def check(self, stored: Any, added: int) -> None:
        """Raises ValueError unless `stored` is what is kept after so many transitions in all."""
        ...

    def on_host(self, seeds: int) -> "HostMemory":
        """The same for S seeds, in NumPy.

        A compiled program that is called for every tick would copy a memory that it was given.
        """
        ...


@runtime_checkable
class HostMemory(Protocol):
    """The contents of S seeds that go on in step."""

    def add(self, rows: Any) -> None:
        """One more tick of each seed: packed transitions [S E row]."""
        ...

    def sample(self, randomness: Any, tick: int) -> Any:
        """As `Memory.sample`, with a leading axis S; of what was drawn for T ticks [S T ...]."""
        ...

    def stored(self, seed: int) -> Any:
        """As `Memory.stored`, of the seed at this place."""
        ...

    def restore(self, seed: int, stored: Any) -> None:
        """As `Memory.restored`, for the seed at this place."""
        ...
