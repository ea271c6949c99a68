"""What a native task is: pure functions of its state, compiled together with the agent."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from upright.spec import Spec


class State(NamedTuple):
    """Where one episode of a plant is. A task may have a state of another kind."""

    x: Float[Array, " X"]  # the plant's state
    steps: Int[Array, ""]  # since the reset


class TimeStep(NamedTuple):
    """What an agent sees after an action."""

    observation: Float[Array, " O"]
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]  # the task ended: there is nothing after it
    truncated: Bool[Array, ""]  # the time limit cut it off: it would have gone on


@runtime_checkable
class Task(Protocol):
    """For one episode; batched outside, by vmap. A state is a pytree.

    A task whose spec has a `mirror` also has `mirror(state)`, the mirrored state (held by
    `symmetry.check_mirror`). One that is a task of Gymnasium's says so by `original`, the id of the
    environment that judges its policies; `drawn_by` is the one that draws it.
    """

    @property
    def spec(self) -> Spec: ...

    def reset(self, key: PRNGKeyArray) -> Any:
        """A random start state."""
        ...

    def observe(self, state: Any) -> Float[Array, " O"]:
        """The observation of a state."""
        ...

    def step(self, state: Any, action: Float[Array, " U"]) -> tuple[Any, TimeStep]:
        """One sampling time later; `action` is physical: the inputs of the plant, in its units.

        Does not reset: what follows an end is the caller's choice.
        """
        ...
