"""The contract of agents: what the rest of the project knows of an algorithm.

An agent says what it keeps, when it learns from it, and what it tells. It is a frozen dataclass of
settings (they become the command line), and its methods are pure functions of one seed: no
environment, files, clock, jit or seed axis. The order of things in one tick, in which each of the
seed's E environments takes one step:

    action, extras = select(outputs(state, observation), noise, steps)
    the environments step; their transitions are added to the memory
    if the memory says that learning is due:  state, metrics = learn(state, experience, noise)
    state = count(state, transition)
"""

from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Array, Float, PRNGKeyArray

from upright.calling import check_kind
from upright.errors import UprightError
from upright.finding import Finding
from upright.memory.memory import Memory
from upright.memory.transition import Transition
from upright.policy import Policy
from upright.spec import Spec


def check_agent(agent: Any) -> None:
    """Raises UprightError unless it is one."""
    if isinstance(agent, type):
        raise UprightError(f"agent is the class {agent.__name__}; give its settings, as DQN()")
    check_kind("agent", agent, Agent, "the settings of one, as upright.DQN()")


@runtime_checkable
class Agent(Protocol):
    """A state is a tree of arrays with a member `params`: the parameters that must stay finite."""

    @property
    def environments(self) -> int:
        """E, that a seed acts in side by side: a setting, since it changes the result."""
        ...

    # A NamedTuple of scalars, of one learning; its fields are columns of learning.csv.
    Metrics: ClassVar[type[Any]]

    def fits(self, spec: Spec) -> None:
        """Raises UprightError if it cannot learn a task with such observations, actions, or masks.

        It may only let a task with `masked` pass if it learns with `Transition.next_mask`.
        """
        ...

    def memory(self, like: Transition) -> Memory:
        """For transitions of the shapes and types of `like`, of E environments."""
        ...

    def init(self, key: PRNGKeyArray, spec: Spec) -> Any:
        """The state at the beginning."""
        ...

    def draw(self, key: PRNGKeyArray, spec: Spec) -> Any:
        """All that `select` and `learn` leave to chance in one tick; drawn for many at once."""
        ...

    def outputs(self, state: Any, observation: Float[Array, "*E O"]) -> Any:
        """What the network tells of observations: action values, or means and deviations.

        A policy's `outputs` are the same.
        """
        ...

    def select(self, outputs: Any, noise: Any, steps: Any, mask: Any = None) -> tuple[Any, Any]:
        """Actions that explore, after so many steps, and what `learn` must know of their choice.

        Of a Choice indices [E], else vectors [E U]. NumPy arrays make NumPy arrays. `mask`: bools
        [E A], which actions are allowed, at least one; None where the task has no masks.
        """
        ...

    def greedy(self, outputs: Any, mask: Any = None) -> Any:
        """Actions that do not explore; `mask` as in `select`."""
        ...

    def learn(self, state: Any, experience: Transition, noise: Any) -> tuple[Any, Any]:
        """From what the memory sampled; returns the new state and `Metrics`."""
        ...

    def count(self, state: Any, transition: Transition) -> Any:
        """After a tick: counters, measured scaling, copies to target networks."""
        ...

    def to_policy(self, state: Any, spec: Spec) -> Policy:
        """The greedy policy, as NumPy arrays."""
        ...

    def schedules(self, steps: int) -> dict[str, float]:
        """What follows from the number of steps alone: columns of learning.csv."""
        ...

    def review(self, steps: float, episode_steps: float = 0.0) -> list[Finding]:
        """What is to be said of these settings for a budget of so many steps.

        `episode_steps`: longest episode that was seen. A finding with severity "problem" means that
        nothing would be learned.
        """
        ...
