"""DQN: a network learns the action values Q(s, a) by temporal differences from a replay.

Source: V. Mnih et al., "Human-level control through deep reinforcement learning", Nature 518
(2015), Algorithm 1; double Q-learning: H. van Hasselt, A. Guez, D. Silver, AAAI (2016), eq. (4).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from upright.agents import review
from upright.calling import settings_checked
from upright.errors import UprightError
from upright.finding import Finding
from upright.memory.replay import Replay
from upright.memory.transition import Transition
from upright.networks.mlp import MLP
from upright.networks.normalise import Moments
from upright.parameters import check_settings, setting
from upright.policy import Policy
from upright.spec import Continuous, Spec

_MOST_LAYERS = 64  # beyond it compiling takes minutes


class State(NamedTuple):
    """All that one seed of the agent knows, apart from its replay."""

    params: MLP
    target_params: MLP
    optimizer: optax.OptState
    offset: Float[Array, " O"]  # the networks see (observation - offset) / scale
    scale: Float[Array, " O"]
    moments: Moments | None  # where the task does not say how to scale
    steps: Int[Array, ""]  # of all environments
    episodes: Int[Array, ""]  # finished


class Noise(NamedTuple):
    """The random numbers of one tick."""

    explore: Any  # [E] uniform in [0, 1): below epsilon the random action is taken
    action: Any  # [E] the random one; with masks uniform in [0, 1): its place among the allowed


class Metrics(NamedTuple):
    """Means over the gradient steps of one tick."""

    loss: Float[Array, ""]
    q_mean: Float[Array, ""]  # of the actions in the batch


@settings_checked
@dataclass(frozen=True)
class DQN:
    """Settings of DQN. A step is one step of one environment."""

    # units of each hidden layer
    hidden: tuple[int, ...] = setting((64, 64), at_least=1, at_most=2**16)
    gamma: float = setting(0.99, at_least=0, at_most=1)  # discount factor per step
    learning_rate: float = setting(1e-3, above=0)  # of Adam, at the start
    learning_rate_end: float = setting(0.0, at_least=0)  # after the decay
    # linear from start to end; 0: constant [steps]
    learning_rate_decay_steps: int = setting(0, at_least=0, below=2**31)
    batch_size: int = setting(64, at_least=1, at_most=2**20)  # transitions per gradient step
    # transitions kept, the newest ones
    replay_size: int = setting(10_000, at_least=1, below=2**31)
    # steps before the first gradient step
    learning_starts: int = setting(500, at_least=0, below=2**31)
    # per step of the environments side by side
    gradient_steps: int = setting(2, at_least=1, at_most=2**16)
    # that each seed acts in, side by side
    environments: int = setting(1, at_least=1, at_most=2**16)
    epsilon_start: float = setting(1.0, at_least=0, at_most=1)  # chance of a random action
    epsilon_end: float = setting(0.1, at_least=0, at_most=1)  # after the decay
    # linear from start to end; 0: the end from the start [steps]
    epsilon_decay_steps: int = setting(3_000, at_least=0, below=2**31)
    # how the target network follows the online one
    target_update: Literal["episodes", "steps", "polyak"] = "polyak"
    # episodes or steps between two copies to the target network
    target_interval: int = setting(20, at_least=1, below=2**31)
    # polyak: share of the online network mixed in per gradient step
    tau: float = setting(0.02, above=0, at_most=1)
    double: bool = True  # online network chooses the next action, target network rates it
    # of the temporal-difference error; huber: quadratic up to 1, linear beyond
    loss: Literal["mse", "huber"] = "mse"
    # longer gradients are scaled down to this norm; 0: never
    max_gradient_norm: float = setting(0.0, at_least=0)
    # by the task's typical magnitudes or finite bounds, else by running mean and variance
    scale_observations: bool = True

    Metrics: ClassVar[type[Any]] = Metrics

    def __post_init__(self) -> None:
        check_settings(self)
        if len(self.hidden) > _MOST_LAYERS:
            raise UprightError(f"hidden has {len(self.hidden)} layers; at most {_MOST_LAYERS}")
        if self.batch_size > self.replay_size:
            raise UprightError(
                f"batch_size is {self.batch_size}; it must be at most replay_size,"
                f" {self.replay_size}"
            )

    def fits(self, spec: Spec) -> None:
        """Raises UprightError where an action is continuous: DQN chooses among some values."""
        if isinstance(spec.action, Continuous):
            names = ", ".join(channel.name for channel in spec.action.channels)
            raise UprightError(
                f"DQN chooses among values, {spec.task} has a continuous action ({names}); give it"
                " some values to choose from, as PendulumDiscrete-v1 has, or in Gymnasium by"
                " gymnasium.wrappers.TransformAction"
            )

    def memory(self, like: Transition) -> Replay:
        """Uniform replay."""
        return Replay.of(
            like, self.replay_size, self.gradient_steps, self.batch_size, self.learning_starts
        )

    def init(self, key: PRNGKeyArray, spec: Spec) -> State:
        """Random networks, equal to each other; nothing counted or measured yet."""
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
        """For E environments."""
        explore_key, action_key = jax.random.split(key)
        some = (self.environments,)
        if spec.masked:
            action = jax.random.uniform(action_key, some)
        else:
            action = jax.random.randint(action_key, some, 0, spec.action_size)
        return Noise(jax.random.uniform(explore_key, some), action)

    def outputs(self, state: State, observation: Float[Array, "*E O"]) -> Float[Array, "*E A"]:
        """Action values of the online network."""
        return state.params(_scaled(state, observation))

    def select(self, outputs: Any, noise: Noise, steps: Any, mask: Any = None) -> tuple[Any, Any]:
        """Epsilon-greedy, among the allowed actions."""
        explore = noise.explore < self.epsilon(steps)
        xp = outputs.__array_namespace__()
        drawn = noise.action if mask is None else _place(mask, noise.action)
        return xp.where(explore, drawn, self.greedy(outputs, mask)), ()

    def greedy(self, outputs: Any, mask: Any = None) -> Any:
        """The allowed action of greatest value [*E]; of equal ones the first."""
        return _allowed(outputs, mask).argmax(axis=-1)

    def learn(self, state: State, experience: Transition, noise: Noise) -> tuple[State, "Metrics"]:
        """A gradient step on each of G batches; the metrics are means."""
        del noise
        state, metrics = jax.lax.scan(
            self.learn_batch,
            state,
            experience,
            # A loop would copy the state in and out.
            unroll=min(self.gradient_steps, 4),
        )
        return state, jax.tree.map(jnp.mean, metrics)

    def learn_batch(self, state: State, batch: Transition) -> tuple[State, "Metrics"]:
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
            # optax.incremental_update rounds otherwise: the bits of every seed would change.
            target_params = jax.tree.map(
                lambda online, target: target + self.tau * (online - target), params, target_params
            )
        state = state._replace(params=params, target_params=target_params, optimizer=optimizer)
        return state, Metrics(loss=value, q_mean=q.mean())

    def targets(self, state: State, batch: Transition) -> Float[Array, " B"]:
        """y = r + gamma d max_a Q(s', a; target); double: a = argmax_a Q(s', a; online) instead.

        Of the actions that are allowed in s'.
        """
        next_observation = _scaled(state, batch.next_observation)
        next_q = state.target_params(next_observation)
        if self.double:
            online = self.greedy(state.params(next_observation), batch.next_mask)
            value = _chosen(next_q, online)
        else:
            value = _allowed(next_q, batch.next_mask).max(axis=-1)
        return batch.reward + self.gamma * batch.discount * value

    def count(self, state: State, transition: Transition) -> State:
        """Counts a tick, copies to the target network when that is due, and measures scaling.

        By episodes, the first copy is after the first episode, then after every further
        `target_interval` ones.
        """
        steps = state.steps + self.environments
        episodes = state.episodes + transition.ended.sum(dtype=jnp.int32)
        target_params = state.target_params
        if self.target_update != "polyak":
            interval = self.target_interval
            if self.target_update == "steps":
                due = steps // interval > state.steps // interval
            else:
                due = (episodes - 1) // interval > (state.episodes - 1) // interval
            target_params = jax.tree.map(
                lambda online, target: jnp.where(due, online, target), state.params, target_params
            )
        state = state._replace(steps=steps, episodes=episodes, target_params=target_params)
        if state.moments is not None:
            moments = state.moments.add(jnp.asarray(transition.observation))
            offset, scale = moments.scaling(state.offset, state.scale)
            state = state._replace(moments=moments, offset=offset, scale=scale)
        return state

    def epsilon(self, steps: Any) -> Any:
        """Chance of a random action after so many steps."""
        return _linear(self.epsilon_start, self.epsilon_end, self.epsilon_decay_steps, steps)

    def rate(self, steps: Any) -> Any:
        """Learning rate after so many steps."""
        if not self.learning_rate_decay_steps:
            return jnp.asarray(self.learning_rate)
        ends = self.learning_rate, self.learning_rate_end
        return _linear(*ends, self.learning_rate_decay_steps, steps)

    def schedules(self, steps: int) -> dict[str, float]:
        """Epsilon and the learning rate."""
        now = np.float32(steps)
        return {"epsilon": float(self.epsilon(now)), "learning_rate": float(self.rate(now))}

    def review(self, steps: float, episode_steps: float = 0.0) -> list[Finding]:
        """Schedules against the budget, the replay against an episode."""
        return review.findings(
            review.never_learns("learning_starts", self.learning_starts, steps),
            review.unfinished(
                "epsilon", self.epsilon_start, self.epsilon_end, self.epsilon_decay_steps, steps
            ),
            review.unfinished(
                "learning_rate",
                self.learning_rate,
                self.learning_rate_end,
                self.learning_rate_decay_steps,
                steps,
            ),
            review.short_memory("replay_size", self.replay_size, episode_steps),
        )

    def to_policy(self, state: State, spec: Spec) -> Policy:
        """The greedy policy of the online network."""
        weights, biases = state.params.to_numpy()
        return Policy(spec, weights, biases, np.array(state.offset), np.array(state.scale))

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


def _allowed(values: Any, mask: Any) -> Any:
    """Values [*B A], those of masked actions minus infinity; NumPy or JAX."""
    if mask is None:
        return values
    return values.__array_namespace__().where(mask, values, -np.inf)


def _place(mask: Any, share: Any) -> Any:
    """Of the allowed actions one index [*B], all equally likely, for a share [*B] in [0, 1)."""
    allowed_so_far = mask.astype(np.int32).cumsum(axis=-1)
    # In single precision in NumPy, too. A share is at most 1 - 2^-23, so this is below the count.
    place = (share * allowed_so_far[..., -1].astype(np.float32)).astype(np.int32)
    return (allowed_so_far > place[..., None]).argmax(axis=-1)


def _linear(start: float, end: float, duration: int, steps: Any) -> Any:
    """Not optax.linear_schedule, which is JAX's alone: a learner's loop acts in NumPy."""
    progress = (steps / duration).clip(0, 1) if duration else 1.0
    return start + (end - start) * progress
