"""Where a policy is tried: as it was trained, or on another task, with other physics."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym

from upright.bridge import flat
from upright.bridge.arguments import check_env
from upright.bridge.factory import Factory, ask_again, is_made, named
from upright.bridge.spec import read_spec
from upright.calling import check_names, is_from_command_line, option
from upright.errors import UprightError, UprightWarning
from upright.policy import Policy, Provenance
from upright.spec import Channel, Choice, Continuous
from upright.tasks import catalogue, parameters
from upright.tasks.catalogue import Physics

_UNNAMED = re.compile(r"(observation|action)(\[[\d, ]*\])?")  # what an environment does not name


@dataclass(frozen=True)
class Conditions:
    """A task, what is changed of it, and in which words."""

    task: str  # its id, without a module
    factory: Factory | None  # what makes it, if it has no id
    physics: Mapping[str, Any]
    randomise: Mapping[str, Any]
    env: Mapping[str, Any]  # arguments of the environment itself
    changes: tuple[str, ...]  # of what the policy was trained with

    def provenance(self, policy: Policy) -> Provenance:
        """The policy's, with these physics."""
        return replace(policy.provenance, physics=self.physics, randomise=self.randomise)


def conditions(
    policy: Policy,
    task: str | Factory | None = None,
    randomised: bool = False,
    physics: Physics | None = None,
    env: Mapping[str, Any] | None = None,
) -> Conditions:
    """Those of the policy's training, but for what is given.

    `task` is what the user typed; only then the module in an id like "my_robot:Arm-v0" is imported,
    since the policy may be a stranger's file. Another task than the policy's has its own physics.
    Raises UprightError where they cannot be.
    """
    check_names("physics", physics or {}, "parameters by name, as {'gravity': 3.7}")
    env = check_env(env or {})
    known, provenance = policy.spec.task, policy.provenance
    name, factory = named(known if task is None else task)
    if is_made(name) and not factory:
        raise UprightError(ask_again(name))
    if task is not None and not factory:
        catalogue.load(name)
    if factory and (physics or env):
        raise UprightError(f"{name} is made by a function; let it set physics and env itself")
    name, same = catalogue.bare(name), catalogue.bare(name) == catalogue.bare(known)
    if task is None:
        _check_known(known)
    given, theirs = dict(physics or {}), provenance.physics if same else {}
    ranges = ranges_of(policy, name, given) if randomised else {}
    if randomised and not ranges:
        raise UprightError(
            "the policy was trained without randomised physics"
            if not provenance.randomise
            else "nothing is left of the physics that were randomised in the policy's training"
        )
    arguments = env_arguments(provenance.env if same else {}, env)
    changes = [] if same else [_other_task(policy, name)]
    changes += [_changed_physics(policy, name, same, *change) for change in given.items()]
    changes += [_changed_argument(policy, same, *argument) for argument in arguments.items()]
    return Conditions(
        name, factory, {**theirs, **given}, ranges, arguments, tuple(filter(None, changes))
    )


def ranges_of(policy: Policy, task: str | Factory | None, physics: Physics) -> dict[str, Any]:
    """What may be drawn as in the policy's training, where these physics are given."""
    name = policy.spec.task if task is None else task
    if not isinstance(name, str) or catalogue.bare(name) != catalogue.bare(policy.spec.task):
        return {}
    drawn = policy.provenance.randomise
    return {parameter: ends for parameter, ends in drawn.items() if parameter not in physics}


def env_arguments(recorded: Mapping[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Arguments of an environment: what was recorded of the training, and what is given.

    The file may be a stranger's: text, which may name a file or a module, is passed on only where
    the user gives it again. Raises UprightError if he did not.
    """
    given = dict(given or {})
    for name, value in recorded.items():
        if isinstance(value, str) and name not in given:
            again = f"--env.{name} {value}" if is_from_command_line() else f"env={{{name!r}: ...}}"
            raise UprightError(
                f"trained with env.{name} {value!r}; text is passed on to an environment only where"
                f" you give it again: {again}"
            )
    return {**recorded, **given}


def open_env(policy: Policy, where: Conditions, **options: Any) -> flat.Flat:
    """Gymnasium's environment for a policy. Raises UprightError if the two do not fit."""
    task: str | Factory
    task, physics = where.task, {}
    if where.factory:
        task = where.factory
    else:
        task, physics = catalogue.environment(where.task, where.physics, where.randomise)
    # Many environments do not know a render mode: none is not passed on.
    options = {name: value for name, value in options.items() if value is not None}
    env = flat.make_env(task, policy.spec.action, **physics, **where.env, **options)
    try:
        _check_fit(policy, env, where)
    except BaseException:
        env.close()
        raise
    return env


def _check_known(known: str) -> None:
    name = catalogue.bare(known)
    if not catalogue.is_native(name) and name not in gym.registry:
        module = known if ":" in known else f"MODULE:{known}"
        raise UprightError(
            f"task {known!r} is not known here; if a module of yours or one that you trust has it:"
            f" {option('task', module)}"
        )


def _other_task(policy: Policy, name: str) -> str:
    physics = [f"{key} {_text(value)}" for key, value in policy.provenance.physics.items()]
    trained = f"{policy.spec.task} ({', '.join(physics)})" if physics else policy.spec.task
    return f"trained with {trained}, evaluated with {name}"


def _changed_physics(policy: Policy, name: str, same: bool, key: str, value: Any) -> str:
    """Empty where nothing is changed."""
    native = name.removeprefix("upright/")
    if not catalogue.is_native(native):
        return ""  # and will be refused
    default = parameters.find(catalogue.make_task(native), key).value
    if not same:
        return f"evaluated with {key} {_text(value)} instead of {_text(default)}"
    provenance = policy.provenance
    before = _text(provenance.physics.get(key, default))
    if ends := provenance.randomise.get(key):
        before = " to ".join(map(_text, ends))
    after = _text(value)
    return "" if before == after else f"trained with {key} {before}, evaluated with {after}"


def _changed_argument(policy: Policy, same: bool, key: str, value: Any) -> str:
    """Empty where nothing is changed."""
    recorded = policy.provenance.env if same else {}
    if key not in recorded:
        return f"evaluated with env.{key} {value}" + (", trained without it" if same else "")
    before = recorded[key]
    return "" if before == value else f"trained with env.{key} {before}, evaluated with {value}"


def _text(value: Any) -> str:
    numbers = value if isinstance(value, list | tuple) else [value]
    return " ".join(f"{n:g}" if isinstance(n, int | float) else str(n) for n in numbers)


def _check_fit(policy: Policy, env: flat.Flat, where: Conditions) -> None:
    """Raises UprightError where observations or actions are others, by number, name or unit."""
    mine = _shape(policy.spec.observation_size, policy.spec.action)
    theirs = _shape(env.observation_size, env.action)
    same = where.task == catalogue.bare(policy.spec.task)
    who = "the policy has" if same else f"the policy is for {policy.spec.task} and has"
    if mine != theirs:
        raise UprightError(f"{who} {mine}; {where.task} has {theirs}")
    if same:
        return
    native = catalogue.is_native(where.task) and not where.factory
    spec = catalogue.make_task(where.task).spec if native else read_spec(env, where.task)
    channels = *policy.spec.observation.channels, *spec.observation.channels
    if not all(map(_is_named, channels)):
        warnings.warn(
            f"the observations of {where.task} are taken for those of {policy.spec.task}, in the"
            " same order: without names of both they cannot be compared",
            UprightWarning,
            stacklevel=2,
        )
    pairs: list[tuple[Choice | Channel, Choice | Channel]]
    pairs = [*zip(policy.spec.observation.channels, spec.observation.channels, strict=True)]
    if env.action != policy.spec.action:
        pairs += zip(_inputs(policy.spec.action), _inputs(spec.action), strict=False)
    for one, other in pairs:
        known = _is_named(one) and _is_named(other)
        if known and (one.name, one.unit) != (other.name, other.unit):
            raise UprightError(
                f"{who} {one.name!r} [{one.unit}] where {where.task} has {other.name!r}"
                f" [{other.unit}]"
            )


def _is_named(channel: Choice | Channel) -> bool:
    return not _UNNAMED.fullmatch(channel.name)


def _inputs(action: Choice | Continuous) -> tuple[Choice | Channel, ...]:
    return (action,) if isinstance(action, Choice) else action.channels


def _shape(observations: int, action: Choice | Continuous) -> str:
    kind = "action" if isinstance(action, Choice) else "continuous action"
    counts = (observations, "observation"), (action.count, kind)
    return " and ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts)
