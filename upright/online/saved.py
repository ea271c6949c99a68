"""The file of a learner, read and checked whole before anything is compiled or allocated."""

from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from upright import plain, tensors
from upright.agents import agent_from_dict
from upright.agents.agent import Agent
from upright.errors import UprightError
from upright.memory.transition import Row
from upright.policy import Policy
from upright.runners import randomness
from upright.runners.fit import check_fit
from upright.seeds import check_seeds
from upright.spec import Choice, Spec

FORMAT, VERSION = "upright-learner", 2
_MOST = 2**31  # steps and calls; they are counted in 32 bits


class Acted(NamedTuple):
    """An action that waits for what comes of it."""

    observation: Any  # [1 O]
    action: Any  # [1] or [1 U]
    extras: Any


class Saved(NamedTuple):
    """All that a file tells of a learner."""

    agent: Agent
    spec: Spec
    seed: int
    steps: int
    calls: int  # of `learn`
    state: Any  # of the agent; NumPy's arrays
    memory: Any  # as `Memory.stored`
    acted: Acted | None
    observed: NDArray[np.float32] | None  # [1 row]
    ripe: Any  # what is to be learned from once, of a memory that forgets


def decode(content: bytes) -> Saved:
    """Raises UprightError if the content is damaged, or nothing that a learner has saved."""
    named, header = tensors.decode(content, FORMAT, VERSION)
    try:
        return _decode(named, header)
    except (AttributeError, LookupError, TypeError, ValueError):
        raise UprightError("damaged: its numbers do not fit its settings") from None


def _decode(named: dict[str, NDArray[Any]], header: dict[str, Any]) -> Saved:
    agent = agent_from_dict(plain.typed(header["agent"], dict))
    spec = Spec.from_dict(plain.typed(header["spec"], dict))
    (seed,) = check_seeds([plain.typed(header["seed"], int)])
    steps, calls = plain.count(header["steps"]), plain.count(header["calls"])
    if max(steps, calls) >= _MOST:
        raise ValueError(f"more than {_MOST} steps")
    if agent.environments != 1:
        raise UprightError(f"damaged: environments is {agent.environments}; a learner has one")
    like = check_fit(agent, spec)
    state = tensors.unflatten(like, named, "state")
    transition = randomness.transition_like(agent, spec)
    rules = agent.memory(transition)
    stored = tensors.unflatten(rules.on_host(1).stored(0), named, "memory")
    rules.check(stored, steps)
    acted, observed, ripe, width = None, None, None, Row.of(transition).width
    if any(name.startswith("acted") for name in named):
        template = Acted(transition.observation, transition.action, transition.extras)
        acted = tensors.unflatten(template, named, "acted")
        if isinstance(spec.action, Choice) and not 0 <= acted.action[0] < spec.action.count:
            raise ValueError(f"there is no action {acted.action[0]}")
    if "observed" in named:
        observed = named.pop("observed")
        if observed.dtype != np.float32 or observed.size != width:
            raise ValueError("observed")
        observed = observed.reshape(1, width)
    if rules.forgets and any(name.startswith("ripe") for name in named):
        one = jax.tree.map(lambda leaf: leaf[0], rules.on_host(1).sample((), 0))
        ripe = tensors.unflatten(one, named, "ripe")
    if named:
        raise ValueError(f"unknown: {', '.join(named)}")
    if not all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, stored, acted, observed, ripe))
    ):
        raise ValueError("not finite")
    Policy.from_bytes(agent.to_policy(state, spec).to_bytes())  # which checks its numbers
    return Saved(agent, spec, seed, steps, calls, state, stored, acted, observed, ripe)
