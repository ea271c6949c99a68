"""The native tasks against Gymnasium's originals, state by state."""

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upright.tasks import make_task
from upright.tasks.cartpole import CartPoleTask, State

STATES = 10_000


@pytest.fixture(scope="module")
def transitions():
    """Random states, a random half of them close to a limit, both actions, and what follows."""
    rng = np.random.default_rng(0)
    states = rng.uniform(-1, 1, (STATES, 4)) * [2.5, 3.0, 0.22, 3.0]
    env = gym.make("CartPole-v1").unwrapped
    rows = []
    for state in states:
        for action in (0, 1):
            env.reset()
            env.state = state.copy()
            _, reward, terminated, _, _ = env.step(action)
            rows.append((state, action, np.array(env.state), reward, terminated))
    return [np.array(column) for column in zip(*rows, strict=True)]


def step_all(states, actions):
    task = CartPoleTask()
    steps = jnp.zeros(len(states), jnp.int32)
    return jax.vmap(task.step)(State(jnp.asarray(states), steps), jnp.asarray(actions))


def test_equations_agree_with_gymnasium_in_double_precision(transitions):
    states, actions, following, rewards, terminated = transitions
    with jax.enable_x64(True):
        state, timestep = step_all(states, actions)
        error = np.abs(np.asarray(state.x) - following) / np.abs(following)
    assert error.max() < 1e-5
    assert np.array_equal(timestep.reward, rewards)
    assert np.array_equal(timestep.terminated, terminated)
    assert 0.05 < terminated.mean() < 0.95


def test_single_precision_is_as_good_as_its_numbers(transitions):
    states, actions, following, _, _ = transitions
    state, timestep = step_all(states.astype(np.float32), actions)
    assert state.x.dtype == timestep.reward.dtype == jnp.float32
    # Relative to the larger of before and after: a state may pass through zero.
    size = np.maximum(np.abs(states), np.abs(following))
    assert (np.abs(np.asarray(state.x) - following) / size).max() < 1e-5


def test_an_episode_agrees_with_gymnasium_to_its_end():
    task = make_task("CartPole-v1")
    env = gym.make("CartPole-v1")
    env.reset(seed=1)
    state = State(jnp.asarray(env.unwrapped.state, jnp.float32), jnp.int32(0))
    rng = np.random.default_rng(1)
    over = False
    while not over:
        action = int(rng.integers(2))
        observation, reward, terminated, truncated, _ = env.step(action)
        state, timestep = task.step(state, jnp.int32(action))
        np.testing.assert_allclose(timestep.observation, observation, rtol=1e-4, atol=1e-5)
        ends = bool(timestep.terminated), bool(timestep.truncated)
        assert (float(timestep.reward), *ends) == (reward, terminated, truncated)
        over = terminated or truncated


def test_time_limit_truncates_and_does_not_terminate():
    task = make_task("CartPole-v1")
    upright = jnp.zeros(4)
    _, before = task.step(State(upright, jnp.int32(498)), jnp.int32(0))
    _, at_limit = task.step(State(upright, jnp.int32(499)), jnp.int32(0))
    assert not before.truncated
    assert at_limit.truncated
    assert not at_limit.terminated
    assert gym.spec("CartPole-v1").max_episode_steps == task.spec.episode_steps == 500


def test_start_states_are_as_gymnasiums():
    task = make_task("CartPole-v1")
    starts = jax.vmap(task.reset)(jax.random.split(jax.random.key(0), 1000)).x
    assert np.abs(starts).max() <= 0.05
    np.testing.assert_allclose(np.std(starts, axis=0), 0.05 / np.sqrt(3), rtol=0.1)


def test_a_heavier_pole_changes_what_follows_from_it():
    """Parameters are primitives: nothing derived is stored that a sweep could leave behind."""
    light, heavy = CartPoleTask(), CartPoleTask(plant=CartPoleTask().plant.__class__(pole_mass=0.5))
    state = State(jnp.array([0.0, 0.0, 0.1, 1.0]), jnp.int32(0))
    after = [task.step(state, jnp.int32(1))[0].x for task in (light, heavy)]
    # By hand, cart 1 kg, half length 0.5 m, angle 0.1 rad, 1 rad/s, 10 N, 0.02 s:
    # push = (10 + m 0.5 sin 0.1) / (1 + m); m = 0.1: 9.0954470, m = 0.5: 6.6833056
    # theta'' = (9.8 sin 0.1 - push cos 0.1) / (0.5 (4/3 - m cos^2 0.1 / (1 + m)))
    #         = -8.0716401 / 0.6216652 = -12.983903;  -5.6715494 / 0.5016611 = -11.305539
    np.testing.assert_allclose(after[0][3], 1 + 0.02 * -12.983903, rtol=1e-5)
    np.testing.assert_allclose(after[1][3], 1 + 0.02 * -11.305539, rtol=1e-5)
