"""What an environment of Gymnasium's tells of itself."""

import math
from dataclasses import replace
from typing import Any

from upright.bridge import wrappers
from upright.bridge.flat import Env, Flat, bounded, box, entries
from upright.errors import UprightError
from upright.spec import Channel, Spec, Vector
from upright.tasks import catalogue

# A bound beyond this stands for "none", as the largest float32 does in many environments.
_BOUND = 1e6
_OF_THE_RETURN: frozenset[wrappers.Part] = frozenset(("reward", "end", "time"))


def read_spec(env: Flat, task: str) -> Spec:
    """What an environment tells of itself.

    A channel between finite bounds is scaled by them, another one by what is measured. An
    environment that knows better, with names and units, has a Spec as its `upright_spec`; of that
    is taken what the wrappers around it leave alone. Whether it masks actions is known after a
    reset.
    """
    own, changed = wrappers.told(env.env)
    seen = _read_from_spaces(env, task, changed)
    if own is None:
        return seen
    observation = own.observation
    if "end" in changed:
        observation = Vector(tuple(map(_without_end, observation.channels)))
    steps = seen.episode_steps or own.episode_steps
    same_return = steps == own.episode_steps and not changed & _OF_THE_RETURN
    spec = Spec(
        task=task,
        observation=seen.observation if "observation" in changed else observation,
        action=seen.action if "action" in changed else own.action,
        dt=None if "time" in changed else own.dt,
        episode_steps=steps,
        solved_return=own.solved_return if same_return else seen.solved_return,
        mirror=None if changed else own.mirror,
        masked=bool(env.masked),
    )
    _check_own(env, spec, task)
    return spec


def _read_from_spaces(env: Flat, task: str, changed: frozenset[wrappers.Part]) -> Spec:
    lows, highs = box(env)
    # The entries of the array that the environment itself returns.
    names = entries("observation", box(env.env)[0].shape)
    # What is registered is true of the id that is asked for. Else it is of one below the wrappers.
    registered = env.spec is not None and env.spec.id == catalogue.bare(task)
    solved = registered or not changed & _OF_THE_RETURN
    return Spec(
        task=task,
        observation=Vector(tuple(map(_channel, names, lows.tolist(), highs.tolist()))),
        action=env.action,
        dt=None if "time" in changed else _sampling_time(env),
        episode_steps=env.spec.max_episode_steps if env.spec else None,
        solved_return=env.spec.reward_threshold if env.spec and solved else None,
        masked=bool(env.masked),
    )


def _check_own(env: Flat, own: Spec, task: str) -> None:
    sizes = own.observation_size, own.action_size
    if sizes != (env.observation_size, env.action_size):
        raise UprightError(
            f"task {task!r}: its upright_spec has {sizes[0]} observations and {sizes[1]} actions,"
            f" its spaces have {env.observation_size} and {env.action_size}"
        )
    if type(own.action) is not type(env.action):
        raise UprightError(
            f"task {task!r}: the action of its upright_spec is a {type(own.action).__name__}, and"
            f" its action_space is {env.env.action_space}"
        )


def _without_end(channel: Channel) -> Channel:
    return replace(channel, terminates_below=-math.inf, terminates_above=math.inf)


def _channel(name: str, low: float, high: float) -> Channel:
    if not -_BOUND < low < high < _BOUND:
        return Channel(name, "1", scale=None)
    return bounded(name, low, high)


def _sampling_time(env: Env) -> float | None:
    """From the plant's own attribute, as Gymnasium's environments call it, else from its video."""
    inner: Any = env.unwrapped
    candidates = [getattr(inner, "dt", None), getattr(inner, "tau", None)]
    rate = env.metadata.get("render_fps")
    if isinstance(rate, int | float) and rate > 0:
        candidates.append(1 / rate)
    numbers = (float(c) for c in candidates if isinstance(c, int | float))
    return next((number for number in numbers if 0 < number < math.inf), None)
