"""Whether a task is as symmetric as its spec says."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from upright.errors import UprightError
from upright.spec import Choice, Mirror, Spec
from upright.tasks.task import Task

_EPISODES, _STEPS = 100, 100  # side by side; of each
# Error relative to the largest magnitude of a channel: single precision, a fast plant may multiply
# its rounding errors by a thousand.
_TOLERANCE = 1e-3


class _Seen(NamedTuple):
    """What is compared; of one state, or with leading axes."""

    present: Float[Array, " O"]
    observation: Float[Array, " O"]  # after a step
    reward: Float[Array, ""]
    terminated: Float[Array, ""]
    truncated: Float[Array, ""]


def check_mirror(task: Task, seed: int = 0) -> None:
    """Holds `step(mirror(s), mirror(a)) == mirror(step(s, a))` on 10,000 random states.

    These are reached from resets by random actions. A task whose spec has no mirror passes.
    Raises UprightError where the two differ, and says which channel does, and by how much.
    """
    spec = task.spec
    if spec.mirror is None:
        return
    if not hasattr(task, "mirror"):
        raise UprightError(
            f"task {spec.task!r}: its spec has a mirror, so it needs a method mirror(state) that"
            " returns the mirrored state"
        )
    mirrored, expected = jax.jit(_play, static_argnums=0)(task, jax.random.key(seed))
    for where, mine, other in (
        ("as it is observed", mirrored.present, expected.present),
        ("after a step", mirrored.observation, expected.observation),
    ):
        for i, channel in enumerate(spec.observation.channels):
            _compare(spec, f"{channel.name!r} {where}", channel.unit, mine[..., i], other[..., i])
    for name in ("reward", "terminated", "truncated"):
        _compare(spec, name, "1", getattr(mirrored, name), getattr(expected, name))


def random_action(spec: Spec, key: PRNGKeyArray) -> tuple[Float[Array, " U"], Float[Array, " U"]]:
    """A physical action of a task that has a mirror, and the mirrored one."""
    assert spec.mirror is not None
    if isinstance(spec.action, Choice):
        index = jax.random.randint(key, (), 0, spec.action.count)
        return spec.action.physical(index), spec.action.physical(spec.mirror.index(index))
    low = jnp.array([channel.minimum for channel in spec.action.channels])
    high = jnp.array([channel.maximum for channel in spec.action.channels])
    action = jax.random.uniform(key, low.shape, minval=low, maxval=high)
    return action, spec.mirror.action(action)


def _play(task: Any, key: PRNGKeyArray) -> tuple[_Seen, _Seen]:
    """What the mirrored task shows [T E ...], and what it should show."""
    reset_key, play_key = jax.random.split(key)

    def tick(states: Any, key: PRNGKeyArray) -> tuple[Any, tuple[_Seen, _Seen]]:
        action_key, fresh_key = jax.random.split(key)
        keys = jax.random.split(action_key, _EPISODES)
        following, ended, seen = jax.vmap(partial(_both, task))(states, keys)
        fresh = jax.vmap(task.reset)(jax.random.split(fresh_key, _EPISODES))
        return jax.vmap(_choose)(ended, fresh, following), seen

    start = jax.vmap(task.reset)(jax.random.split(reset_key, _EPISODES))
    return jax.lax.scan(tick, start, jax.random.split(play_key, _STEPS))[1]


def _choose(ended: Bool[Array, ""], fresh: Any, following: Any) -> Any:
    return jax.tree.map(partial(jnp.where, ended), fresh, following)


def _both(task: Any, state: Any, key: PRNGKeyArray) -> tuple[Any, Any, tuple[_Seen, _Seen]]:
    """The next state, whether an episode ended, and what the mirrored task shows and should."""
    mirror: Mirror = task.spec.mirror
    action, opposite = random_action(task.spec, key)
    other = task.mirror(state)
    following, expected = task.step(state, action)
    _, mirrored = task.step(other, opposite)
    ended = expected.terminated | expected.truncated
    should = expected._replace(observation=mirror.observation(expected.observation))
    return (
        following,
        ended,
        (
            _seen(task.observe(other), mirrored),
            _seen(mirror.observation(task.observe(state)), should),
        ),
    )


def _seen(present: Float[Array, " O"], timestep: Any) -> _Seen:
    ends = (end.astype(jnp.float32) for end in (timestep.terminated, timestep.truncated))
    return _Seen(present, timestep.observation, timestep.reward, *ends)


def _compare(spec: Spec, what: str, unit: str, mine: Any, other: Any) -> None:
    mine, other = np.asarray(mine, np.float64), np.asarray(other, np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(mine - other)
    # A NaN on both sides is no matter of symmetry: whoever looks at observations tells of it.
    error[~np.isfinite(mine) & ~np.isfinite(other)] = 0
    # "not less" also finds what is not finite on one side alone.
    if not error.max() <= _TOLERANCE * max(np.nanmax(np.abs(other), initial=0), 1e-6):
        worst = np.unravel_index(error.argmax(), error.shape)
        raise UprightError(
            f"task {spec.task!r} is not symmetric as its mirror says: {what} is"
            f" {mine[worst]:.6g} in the mirrored task and should be {other[worst]:.6g},"
            f" {error[worst]:.3g}{'' if unit == '1' else ' ' + unit} off"
        )
