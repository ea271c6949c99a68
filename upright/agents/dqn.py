"""DQN: a network learns the action values Q(s, a) by temporal differences from a replay.

Source: V. Mnih et al., "Human-level control through deep reinforcement learning", Nature 518
(2015), Algorithm 1; double Q-learning: H. van Hasselt, A. Guez, D. Silver, AAAI (2016), eq. (4).
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from upright.agents.networks import MLP
from upright.agents.replay import Transition, unpack
from upright.agents.scaling import Moments
from upright.errors import UprightError
from upright.policy import Policy, Provenance
from upright.spec import Choice, Spec

Count = Int[Array, ""] | np.int32  # [steps]


class State(NamedTuple):
    """All that one seed of the agent knows, apart from its replay."""

    params: MLP
    target_params: MLP
    optimizer: optax.OptState
    offset: Float[Array, " O"]  # the networks see (observation - offset) / scale
    scale: Float[Array, " O"]
    moments: Moments | None  # where the task does not say how to scale
    steps: Int[Array, ""]  # of the environment
    episodes: Int[Array, ""]  # finished


class Noise(NamedTuple):
    """The random numbers of one step: drawn for many steps at once, outside of the hot loop."""

    explore: Float[Array, ""]  # uniform in [0, 1): below epsilon the random action is taken
    action: Int[Array, ""]


class Metrics(NamedTuple):
    """Of one gradient step."""

    loss: Float[Array, ""]
    q_mean: Float[Array, ""]  # of the actions in the batch


@dataclass(frozen=True)
class DQN:
    """Settings of DQN. A step is one step of the environment."""

    hidden: tuple[int, ...] = (64, 64)  # units of each hidden layer
    gamma: float = 0.99  # discount factor per step
    learning_rate: float = 1e-3  # of Adam, at the start
    learning_rate_end: float = 0.0  # after the decay
    learning_rate_decay_steps: int = 0  # linear from start to end; 0: constant [steps]
    batch_size: int = 64  # transitions per gradient step
    replay_size: int = 10_000  # transitions kept, the newest ones
    warmup_steps: int = 500  # steps before the first gradient step
    gradient_steps: int = 2  # per step of the environment
    epsilon_start: float = 1.0  # chance of a random action at the start
    epsilon_end: float = 0.1  # after the decay
    epsilon_decay_steps: int = 3_000  # linear from start to end; 0: the end from the start [steps]
    # how the target network follows the online one
    target_update: Literal["episodes", "steps", "polyak"] = "polyak"
    target_interval: int = 20  # episodes or steps between two copies to the target network
    target_rate: float = 0.02  # polyak: share of the online network mixed in per gradient step
    double: bool = True  # online network chooses the next action, target network rates it
    # of the temporal-difference error; huber: quadratic up to 1, linear beyond
    loss: Literal["mse", "huber"] = "mse"
    max_gradient_norm: float = 0.0  # longer gradients are scaled down to this norm; 0: never
    # by the task's typical magnitudes or finite bounds, else by running mean and variance
    scale_observations: bool = True

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(DQN).items():
            if kind in (int, float):
                number = getattr(self, name)
                whole = isinstance(number, int) and not isinstance(number, bool)
                valid = whole or (kind is float and isinstance(number, float))
                _check(self, name, valid, "a number" if kind is float else "a whole number")
            elif get_origin(kind) is Literal:
                choices = get_args(kind)
                _check(self, name, getattr(self, name) in choices, f"one of {', '.join(choices)}")
        for name in ("batch_size", "replay_size", "gradient_steps", "target_interval"):
            _check(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("warmup_steps", "epsilon_decay_steps", "learning_rate_decay_steps"):
            _check(self, name, getattr(self, name) >= 0, "at least 0")
        for name in ("learning_rate_end", "max_gradient_norm"):
            _check(self, name, 0 <= getattr(self, name) < np.inf, "a number from 0 on")
        for name in ("gamma", "epsilon_start", "epsilon_end"):
            _check(self, name, 0 <= getattr(self, name) <= 1, "between 0 and 1")
        _check(self, "learning_rate", 0 < self.learning_rate < np.inf, "above 0")
        _check(self, "target_rate", 0 < self.target_rate <= 1, "above 0 and at most 1")
        sizes: Any = self.hidden
        valid = isinstance(sizes, tuple) and all(type(n) is int and n >= 1 for n in sizes)
        _check(self, "hidden", valid, "a tuple of whole numbers, each at least 1")
        _check(self, "replay_size", self.replay_size < 2**31, "below 2^31")

    def fits(self, spec: Spec) -> None:
        """Raises UprightError if DQN cannot learn this task."""
        if not isinstance(spec.action, Choice):
            name = spec.action.channels[0].name
            raise UprightError(
                f"DQN chooses among values, {spec.task} has a continuous {name}; train a task that"
                " offers some values"
            )

    def init(self, key: PRNGKeyArray, spec: Spec) -> State:
        params = MLP((spec.observation_size, *self.hidden, spec.action_size), key)
        channels = spec.observation.channels if self.scale_observations else ()
        measured = [channel.scale is None for channel in channels]
        return State(
            params=params,
            # A copy, since online and target network are updated in place, each on its own.
            target_params=jax.tree.map(jnp.copy, params),
            # Optax's types do not know that a module is a tree of arrays.
            optimizer=self._adam.init(cast(optax.Params, params)),
            offset=jnp.array([c.offset for c in channels] or [0.0] * spec.observation_size),
            scale=jnp.array([c.scale or 1.0 for c in channels] or [1.0] * spec.observation_size),
            moments=Moments.init(measured) if any(measured) else None,
            steps=jnp.zeros((), jnp.int32),
            episodes=jnp.zeros((), jnp.int32),
        )

    def draw(self, key: PRNGKeyArray, spec: Spec) -> Noise:
        """What `act` leaves to chance in one step."""
        explore_key, action_key = jax.random.split(key)
        return Noise(
            explore=jax.random.uniform(explore_key),
            action=jax.random.randint(action_key, (), 0, spec.action_size),
        )

    def act(self, state: State, observation: Float[Array, " O"], noise: Noise) -> Int[Array, ""]:
        """Epsilon-greedy: explores."""
        explore = noise.explore < self.epsilon(state.steps)
        return jnp.where(explore, noise.action, self.greedy(state, observation))

    def greedy(self, state: State, observation: Float[Array, "*B O"]) -> Int[Array, "*B"]:
        """The action of greatest value; of equal ones the first."""
        return jnp.argmax(state.params(_scaled(state, observation)), axis=-1)

    def learn(self, state: State, batch: Transition) -> tuple[State, Metrics]:
        """One gradient step on a batch with leading axis B."""

        def loss(params: MLP) -> tuple[Float[Array, ""], Float[Array, " B"]]:
            q = _chosen(params(_scaled(state, batch.observation)), batch.action)
            error = q - targets
            losses = optax.huber_loss(error) if self.loss == "huber" else jnp.square(error)
            return losses.mean(), q

        targets = self.targets(state, batch)
        (value, q), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, optimizer = self._adam.update(gradient, state.optimizer)
        rate = self.rate(state.steps)
        params = jax.tree.map(lambda p, update: p - rate * update, state.params, updates)
        target_params = state.target_params
        if self.target_update == "polyak":
            target_params = jax.tree.map(
                lambda online, target: target + self.target_rate * (online - target),
                params,
                target_params,
            )
        state = state._replace(params=params, target_params=target_params, optimizer=optimizer)
        return state, Metrics(loss=value, q_mean=q.mean())

    def learn_all(self, state: State, rows: Float[Array, "G B row"]) -> tuple[State, Metrics]:
        """A gradient step on each of G batches of packed rows; the metrics are means."""
        state, metrics = jax.lax.scan(
            lambda state, rows: self.learn(state, unpack(rows)),
            state,
            rows,
            # A loop would copy the state in and out.
            unroll=min(self.gradient_steps, 4),
        )
        return state, jax.tree.map(jnp.mean, metrics)

    def targets(self, state: State, batch: Transition) -> Float[Array, " B"]:
        """y = r + gamma d max_a Q(s', a; target); double: a = argmax_a Q(s', a; online) instead."""
        next_observation = _scaled(state, batch.next_observation)
        next_q = state.target_params(next_observation)
        if self.double:
            value = _chosen(next_q, jnp.argmax(state.params(next_observation), axis=-1))
        else:
            value = next_q.max(axis=-1)
        return batch.reward + self.gamma * batch.discount * value

    def advance(
        self, state: State, observation: Float[Array, " O"], episode_ended: Bool[Array, ""]
    ) -> State:
        """Counts a step of the environment, from this observation.

        Copies to the target network when that is due, and measures how to scale observations.

        By episodes, the first copy is after the first episode, then after every further
        `target_interval` ones.
        """
        steps = state.steps + 1
        episodes = state.episodes + episode_ended
        target_params = state.target_params
        if self.target_update != "polyak":
            if self.target_update == "steps":
                due = steps % self.target_interval == 0
            else:
                due = episode_ended & (state.episodes % self.target_interval == 0)
            target_params = jax.tree.map(
                lambda online, target: jnp.where(due, online, target), state.params, target_params
            )
        state = state._replace(steps=steps, episodes=episodes, target_params=target_params)
        if state.moments is not None:
            moments = state.moments.add(observation)
            offset, scale = moments.scaling(state.offset, state.scale)
            state = state._replace(moments=moments, offset=offset, scale=scale)
        return state

    def epsilon(self, steps: Count) -> Float[Array, ""]:
        """Chance of a random action."""
        return _linear(self.epsilon_start, self.epsilon_end, self.epsilon_decay_steps, steps)

    def rate(self, steps: Count) -> Float[Array, ""]:
        """Learning rate."""
        if not self.learning_rate_decay_steps:
            return jnp.asarray(self.learning_rate)
        ends = self.learning_rate, self.learning_rate_end
        return _linear(*ends, self.learning_rate_decay_steps, steps)

    def to_policy(self, state: State, spec: Spec, provenance: Provenance) -> Policy:
        """The greedy policy, as NumPy arrays."""
        layers = state.params.layers
        return Policy(
            spec=spec,
            # A policy's weights are [out, in], as in torch.nn.Linear.
            weights=tuple(np.asarray(layer.weight).T.copy() for layer in layers),
            biases=tuple(np.asarray(layer.bias).copy() for layer in layers),
            offset=np.array(state.offset),
            scale=np.array(state.scale),
            provenance=provenance,
        )

    @property
    def _adam(self) -> optax.GradientTransformation:
        """D. P. Kingma, J. Ba, ICLR (2015), without the learning rate, which follows the steps."""
        clip = optax.clip_by_global_norm(self.max_gradient_norm)
        adam = optax.scale_by_adam()
        return optax.chain(clip, adam) if self.max_gradient_norm else adam


def _scaled(state: State, observation: Float[Array, "*B O"]) -> Float[Array, "*B O"]:
    return (observation - state.offset) / state.scale


def _chosen(q: Float[Array, "B A"], action: Int[Array, " B"]) -> Float[Array, " B"]:
    """Of each row of values, that of its action."""
    # A sum over a mask compiles to one fused pass forward and backward; a gather's gradient is a
    # scatter, which does not.
    return jnp.where(jnp.arange(q.shape[-1]) == action[:, None], q, 0).sum(axis=-1)


def _linear(start: float, end: float, duration: int, steps: Count) -> Float[Array, ""]:
    progress = jnp.clip(steps / duration, 0, 1) if duration else jnp.ones(())
    return start + (end - start) * progress


def _check(settings: DQN, name: str, valid: bool, expected: str) -> None:
    if not valid:
        raise UprightError(f"{name} is {getattr(settings, name)!r}; it must be {expected}")
