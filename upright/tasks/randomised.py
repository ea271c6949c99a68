"""A task whose parameters are drawn anew at each reset: domain randomisation.

Source: J. Tobin et al., "Domain randomization for transferring deep neural networks from simulation
to the real world", IROS (2017); X. B. Peng et al., "Sim-to-real transfer of robotic control with
dynamics randomization", ICRA (2018), for parameters of the dynamics.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from upright import parameters
from upright.calling import option
from upright.errors import UprightError
from upright.spec import Spec
from upright.tasks.parameters import change, find, put
from upright.tasks.task import Task, TimeStep, check_task


class RandomisedState(NamedTuple):
    """Where one episode is, and with which parameters."""

    drawn: dict[str, Float[Array, ""]]  # this episode's parameters, by name [their units]
    inner: Any  # the task's own state


@dataclass(frozen=True)
class Randomised:
    """Any native task; the parameters in `ranges` are uniform between their ends in each episode.

    `ranges`: (name, lowest, highest) of parameters of the plant or the task, in their units. The
    spec is that of the task as it was given; what follows from a parameter must be a property or a
    method, since nothing is made anew. Raises UprightError for an unknown parameter, one that
    cannot be drawn, values out of its bounds, and low > high.
    """

    original: ClassVar[str | None] = None

    task: Task
    ranges: tuple[tuple[str, Any, Any], ...]  # made floats

    def __post_init__(self) -> None:
        checked = tuple(_checked(self.task, *each) for each in self.ranges)
        object.__setattr__(self, "ranges", checked)
        if len({name for name, *_ in checked}) < len(checked):
            raise UprightError("randomise: a parameter is given more than once")
        check_task(self)

    @property
    def spec(self) -> Spec:
        return self.task.spec

    @property
    def episode_steps(self) -> int | None:
        """The time limit, as the task has it [steps]."""
        return self.spec.episode_steps

    def reset(self, key: PRNGKeyArray) -> RandomisedState:
        reset_key, *keys = jax.random.split(key, len(self.ranges) + 1)
        drawn = {
            name: jax.random.uniform(key, minval=low, maxval=high)
            for key, (name, low, high) in zip(keys, self.ranges, strict=True)
        }
        return RandomisedState(drawn, put(self.task, drawn).reset(reset_key))

    def observe(self, state: RandomisedState) -> Float[Array, " O"]:
        return put(self.task, state.drawn).observe(state.inner)

    def mirror(self, state: RandomisedState) -> RandomisedState:
        """With the same parameters. Of a task that has a mirror."""
        return state._replace(inner=put(self.task, state.drawn).mirror(state.inner))

    def step(
        self, state: RandomisedState, action: Float[Array, " U"]
    ) -> tuple[RandomisedState, TimeStep]:
        inner, timestep = put(self.task, state.drawn).step(state.inner, action)
        return state._replace(inner=inner), timestep


def with_time_limit(task: Any, steps: int) -> Task:
    """The task with another time limit [steps]."""
    if isinstance(task, Randomised):
        return replace(task, task=with_time_limit(task.task, steps))
    return replace(task, episode_steps=steps)


def in_this_episode(task: Task, state: Any) -> tuple[Task, Any]:
    """The task with the parameters that it has in this episode, as numbers; and its own state."""
    if not isinstance(task, Randomised):
        return task, state
    drawn = {name: float(value) for name, value in state.drawn.items()}
    return put(task.task, drawn), state.inner


def _checked(task: Any, name: str, low: object, high: object) -> tuple[str, float, float]:
    parameter = find(task, name)
    if isinstance(parameter.value, tuple):
        raise UprightError(f"randomise: {name} is several numbers; only single ones can be drawn")
    try:
        ends = [parameters.check(parameter.owner, name, end) for end in (low, high)]
    except UprightError as error:
        raise UprightError(f"randomise: {error}") from None
    low, high = (end for end in ends if isinstance(end, float))
    if low > high:
        raise UprightError(
            f"randomise: {name} is from {low:g} to {high:g}; the first must not be above the second"
        )
    if any(change(task, {name: end}).spec.action != task.spec.action for end in (low, high)):
        raise UprightError(
            f"randomise: {name} decides what the actions are, so it cannot be drawn; change it by"
            f" {option('physics')}"
        )
    return name, low, high
