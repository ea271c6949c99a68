"""What a native task is: pure functions of its state, compiled together with the agent."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from upright.errors import UprightError
from upright.spec import Choice, Spec


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
    """For one episode; batched outside, by vmap. A state is a pytree, a task a frozen dataclass.

    `episode_steps`, a field of it, is the time limit [steps], or None: `step` truncates there.
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


def check_task(task: Any) -> None:
    """Raises UprightError unless a task does what `Task` promises: which method, which shape.

    Nothing is computed: JAX follows the shapes alone.
    """
    name = type(task).__name__
    if not dataclasses.is_dataclass(task) or isinstance(task, type):
        raise UprightError(f"task {name}: it is {task!r}; it must be a frozen dataclass, made")
    try:
        hash(task)
    except TypeError as error:
        raise UprightError(f"task {name}: {error}; make it a frozen dataclass of numbers") from None
    for method in ("reset", "observe", "step"):
        if not callable(getattr(task, method, None)):
            raise UprightError(f"task {name} has no method {method}")
    owner: Any = task
    try:
        spec = owner.spec
    except Exception as error:  # the user's own code
        said = f"{type(error).__name__}: {error}"
        raise UprightError(f"task {name}: its spec fails with {said}") from error
    if not isinstance(spec, Spec):
        raise UprightError(f"task {name}: its spec is {spec!r}; it must be an upright.Spec")
    if spec.dt is None:
        raise UprightError(f"task {name}: its spec has no dt; say its sampling time [s]")
    if getattr(task, "episode_steps", _NONE) != spec.episode_steps:
        raise UprightError(
            f"task {name}: it needs a field episode_steps, the time limit of its spec"
            f" ({spec.episode_steps})"
        )
    if spec.mirror is not None and not callable(getattr(task, "mirror", None)):
        raise UprightError(f"task {name} has no method mirror(state), and its spec has a mirror")
    if spec.masked:
        raise UprightError(
            f"task {name}: its spec says masked=True, and native tasks have no masks; let step do"
            " something harmless, or make it a Gymnasium environment"
        )
    _check_shapes(task, name, spec)


def check_time_limit(task: Task) -> None:
    """Raises UprightError if the episode goes on after the time limit that the spec tells."""
    limit = task.spec.episode_steps
    if limit is None:
        return
    action = task.spec.action
    first: Any = 0 if isinstance(action, Choice) else [c.minimum for c in action.channels]
    inputs = action.physical(jnp.asarray(first))

    def step(state: Any, _: None) -> tuple[Any, Bool[Array, ""]]:
        state, timestep = task.step(state, inputs)
        return state, timestep.terminated | timestep.truncated

    def play(key: PRNGKeyArray) -> Bool[Array, ""]:
        return jax.lax.scan(step, task.reset(key), None, length=limit)[1][-1]

    if not bool(jax.jit(play)(jax.random.key(0))):
        raise UprightError(
            f"task {task.spec.task!r} goes on after {limit} steps, its episode_steps; count the"
            " steps in the state, and let step() truncate there"
        )


_NONE = object()


def _check_shapes(task: Any, name: str, spec: Spec) -> None:
    key = jax.eval_shape(lambda: jax.random.key(0))
    action = jax.ShapeDtypeStruct((spec.input_size,), jnp.float32)
    size = (spec.observation_size,)
    state = _result(name, "reset(key)", task.reset, key)
    _check_shape(name, "observe(state)", _result(name, "observe(state)", task.observe, state), size)
    call = f"step(state, action [{spec.input_size}])"
    result = _result(name, call, task.step, state, action)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], TimeStep)):
        raise UprightError(f"task {name}: {call} must give the next state and a TimeStep")
    following, timestep = result
    if (was := _shapes(state)) != (now := _shapes(following)):
        raise UprightError(f"task {name}: {call} gives a state of {now}; reset gives {was}")
    for what, value in timestep._asdict().items():
        kind = jnp.bool_ if what in ("terminated", "truncated") else jnp.floating
        _check_shape(name, f"{what} of {call}", value, size if what == "observation" else (), kind)


def _result(name: str, call: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Shapes of what a method gives."""
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:  # the user's own code
        text = " ".join(str(error).split(". ")[0].split()) or type(error).__name__
        raise UprightError(f"task {name}: {call} fails: {text}") from error


def _check_shape(
    name: str, what: str, value: Any, shape: tuple[int, ...], kind: Any = jnp.floating
) -> None:
    if not isinstance(value, jax.ShapeDtypeStruct):
        raise UprightError(f"task {name}: {what} is a {type(value).__name__}; it must be an array")
    if value.shape != shape or not jnp.issubdtype(value.dtype, kind):
        wanted = "truth values" if kind is jnp.bool_ else "floating-point numbers"
        raise UprightError(
            f"task {name}: {what} has shape {list(value.shape)} of {value.dtype}; it must be"
            f" {list(shape)} of {wanted}"
        )


def _shapes(state: Any) -> str:
    leaves, structure = jax.tree.flatten(state)
    shapes = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves)
    return f"{structure.num_leaves} arrays ({shapes})"
