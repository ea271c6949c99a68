"""DQN's equations against numbers worked by hand."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upright import UprightError
from upright.agents.dqn import DQN, Noise
from upright.memory.transition import Transition
from upright.networks.mlp import MLP
from upright.spec import Channel, Choice, Spec, Vector

SPEC = Spec(
    "test", Vector((Channel("a", "m", scale=2.0),)), Choice("choice", "1", (0.0, 1.0)), 0.1, 10
)


def linear_q(slopes, intercepts=(0.0, 0.0)):
    """A network without hidden layer: Q(x, a) = slope_a x + intercept_a, of the scaled x."""
    network = MLP((1, 2), jax.random.key(0))
    values = jnp.array([slopes]), jnp.array(intercepts)
    return jax.tree.unflatten(jax.tree.structure(network), values)


def state_of(agent, online, target):
    return agent.init(jax.random.key(0), SPEC)._replace(params=online, target_params=target)


def batch_of(*rows):
    observation, action, reward, discount, following = map(jnp.array, zip(*rows, strict=True))
    ended = discount == 0
    return Transition(observation[:, None], action, reward, discount, following[:, None], ended, ())


def agent_of(**settings):
    return DQN(**{"hidden": (), "double": False, "scale_observations": False, **settings})


def tick(*ended):
    """Of environments whose episodes ended or did not."""
    count = len(ended)
    zeros = jnp.zeros(count)
    return Transition(zeros[:, None], zeros, zeros, zeros, zeros[:, None], jnp.array(ended), ())


ONLINE, TARGET = linear_q((1.0, -1.0)), linear_q((2.0, 3.0))


def test_target_is_reward_plus_discounted_best_value_of_the_target_network():
    agent = agent_of(gamma=0.9)
    batch = batch_of((0.0, 0, 1.0, 1.0, 2.0), (0.0, 1, 0.5, 1.0, -1.0))
    # s' = 2: Q = (4, 6), 1 + 0.9 * 6 = 6.4;  s' = -1: Q = (-2, -3), 0.5 + 0.9 * -2 = -1.3
    np.testing.assert_allclose(agent.targets(state_of(agent, ONLINE, TARGET), batch), [6.4, -1.3])


def test_double_lets_the_online_network_choose_and_the_target_network_rate():
    agent = agent_of(gamma=0.9, double=True)
    batch = batch_of((0.0, 0, 1.0, 1.0, 2.0), (0.0, 1, 0.5, 1.0, -1.0))
    # s' = 2: online (2, -2) chooses 0, target rates it 4: 1 + 0.9 * 4 = 4.6
    # s' = -1: online (-1, 1) chooses 1, target rates it -3: 0.5 + 0.9 * -3 = -2.2
    np.testing.assert_allclose(agent.targets(state_of(agent, ONLINE, TARGET), batch), [4.6, -2.2])


def test_termination_ends_the_bootstrap_and_truncation_does_not():
    agent = agent_of(gamma=0.9)
    terminated, truncated = (0.0, 0, 1.0, 0.0, 2.0), (0.0, 0, 1.0, 1.0, 2.0)
    targets = agent.targets(state_of(agent, ONLINE, TARGET), batch_of(terminated, truncated))
    np.testing.assert_allclose(targets, [1.0, 6.4])


@pytest.mark.parametrize(
    ("loss", "expected"),
    # Q(1, 0) = 1, y = 1 + 0.9 * 6 = 6.4: error -5.4; Q(2, 1) = -2, y = -2.5: error 0.5
    # mse: (29.16 + 0.25) / 2;  huber: (5.4 - 0.5 + 0.5 * 0.25) / 2
    [("mse", 14.705), ("huber", 2.5125)],
)
def test_loss_is_the_mean_over_the_batch(loss, expected):
    agent = agent_of(gamma=0.9, loss=loss)
    batch = batch_of((1.0, 0, 1.0, 1.0, 2.0), (2.0, 1, -2.5, 0.0, 0.0))
    _, metrics = agent.learn_batch(state_of(agent, ONLINE, TARGET), batch)
    np.testing.assert_allclose(metrics.loss, expected, rtol=1e-6)
    np.testing.assert_allclose(metrics.q_mean, (1 - 2) / 2)


def test_the_first_step_of_adam_has_the_length_of_the_learning_rate():
    """m / sqrt(v) is the sign of the gradient then; the action not taken has none."""
    agent = agent_of(learning_rate=0.01)
    state, _ = agent.learn_batch(state_of(agent, ONLINE, TARGET), batch_of((1.0, 0, 5.0, 0.0, 0.0)))
    np.testing.assert_allclose(state.params.layers[0].weight, [[1.01, -1.0]], rtol=1e-6)
    np.testing.assert_allclose(state.params.layers[0].bias, [0.01, 0.0], rtol=1e-5)


def test_a_long_gradient_is_scaled_down_to_the_largest_norm():
    """Adam forgets the gradient's length, but not in its second moment: (0.6, 0.8) * 0.5."""
    agent = agent_of(max_gradient_norm=0.5)
    # Q = 0.75 (slope) * 4/3 - 1 = 0; error -5; gradient: -10 * (4/3, 1), of length 16.67
    online = linear_q((0.75, 0.0), (-1.0, 0.0))
    state, _ = agent.learn_batch(
        state_of(agent, online, TARGET), batch_of((4 / 3, 0, 5.0, 0.0, 0.0))
    )
    moments = jax.tree.leaves(state.optimizer)
    first = [np.asarray(leaf).ravel()[0] for leaf in moments if np.asarray(leaf).min() < 0]
    np.testing.assert_allclose(sorted(first), [-0.1 * 0.4, -0.1 * 0.3], rtol=1e-5)


def test_polyak_mixes_a_share_of_the_online_network_into_the_target():
    agent = agent_of(target_update="polyak", tau=0.25)
    before = state_of(agent, ONLINE, TARGET)
    state, _ = agent.learn_batch(before, batch_of((1.0, 0, 1.0, 0.0, 0.0)))
    expected = jax.tree.map(lambda p, t: 0.75 * t + 0.25 * p, state.params, TARGET)
    jax.tree.map(np.testing.assert_allclose, state.target_params, expected)


def test_target_follows_after_the_first_episode_and_then_every_interval():
    agent = agent_of(target_update="episodes", target_interval=3)
    state = state_of(agent, ONLINE, TARGET)
    copied = []
    for ended in (False, True, True, True, False, True):
        state = agent.count(state._replace(target_params=TARGET), tick(ended))
        copied.append(bool(state.target_params.layers[0].weight[0, 0] == 1.0))
    assert copied == [False, True, False, False, False, True]
    assert (int(state.steps), int(state.episodes)) == (6, 4)


def test_target_follows_every_so_many_steps():
    agent = agent_of(target_update="steps", target_interval=2)
    state = state_of(agent, ONLINE, TARGET)
    copied = []
    for _ in range(4):
        state = agent.count(state._replace(target_params=TARGET), tick(False))
        copied.append(bool(state.target_params.layers[0].weight[0, 0] == 1.0))
    assert copied == [False, True, False, True]


def test_epsilon_decides_between_chance_and_the_greatest_value():
    agent = agent_of(epsilon_start=0.5, epsilon_end=0.1, epsilon_decay_steps=4)
    state = state_of(agent, ONLINE, TARGET)
    np.testing.assert_allclose(
        [agent.epsilon(np.int32(steps)) for steps in (0, 1, 4, 9)], [0.5, 0.4, 0.1, 0.1]
    )
    for explore, expected in ((0.49, 1), (0.5, 0)):  # greedy at x = 1 is action 0
        noise = Noise(jnp.array([explore]), jnp.array([1]))
        q = agent.outputs(state, jnp.array([[1.0]]))
        action, extras = agent.select(q, noise, jnp.int32(0))
        assert (action.tolist(), extras) == ([expected], ())


def test_learning_rate_decays_linearly():
    agent = agent_of(learning_rate=0.2, learning_rate_end=0.1, learning_rate_decay_steps=10)
    rates = [agent.rate(np.int32(steps)) for steps in (0, 5, 10, 99)]
    np.testing.assert_allclose(rates, [0.2, 0.15, 0.1, 0.1])


def test_observations_are_divided_by_the_tasks_scale_if_asked():
    observation = jnp.array([4.0])
    for scale, expected in ((True, [2.0, -2.0]), (False, [4.0, -4.0])):
        agent = agent_of(scale_observations=scale)
        policy = agent.to_policy(state_of(agent, ONLINE, TARGET), SPEC)
        np.testing.assert_allclose(policy.q_values(observation), expected)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("batch_size", 0),
        ("replay_size", -1),
        ("hidden", (128, 0)),
        ("gamma", 1.5),
        ("gamma", float("nan")),
        ("learning_rate", 0.0),
        ("learning_rate", float("inf")),
        ("tau", 0.0),
        ("epsilon_end", -0.1),
        ("learning_starts", -1),
        ("gradient_steps", 0),
        ("max_gradient_norm", -1.0),
    ],
)
def test_a_senseless_setting_is_refused_by_name_and_value(setting, value):
    with pytest.raises(UprightError, match=f"^{setting} is .*; (it|each number) must be"):
        DQN(**{setting: value})


@pytest.mark.parametrize(
    "setting",
    ["loss='l1'", "loss=[1]", "target_update='often'", "batch_size=32.0", "gamma='0.9'"],
)
def test_a_setting_of_another_type_is_refused(setting):
    """In a process of its own, where nobody else checks the annotations."""
    name = setting.partition("=")[0]
    program = f"""
from upright import DQN, UprightError
try:
    DQN({setting})
except UprightError as error:
    assert {name!r} in str(error), error
else:
    raise SystemExit("accepted")
"""
    subprocess.run([sys.executable, "-c", program], check=True)
