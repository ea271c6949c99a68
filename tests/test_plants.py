"""The native tasks against Gymnasium's originals, state by state."""

from dataclasses import dataclass, replace

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upright.plants.cartpole import CartPole
from upright.spec import Choice
from upright.tasks.cartpole import CartPoleTask
from upright.tasks.catalogue import NAMES, environment, make_task

STATES = 10_000


@dataclass(frozen=True)
class Case:
    """Where the random states of a task lie."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    single: float = 1e-5  # error in single precision, relative to the range of the state


CASES = {
    # At 28 rad/s a step of 0.2 s is almost a turn: it multiplies a rounding error by a hundred.
    "Acrobot-v1": Case((-3.1, -3.1, -12.0, -28.0), (3.1, 3.1, 12.0, 28.0), single=1e-4),
    "CartPole-v1": Case((-2.5, -3.0, -0.22, -3.0), (2.5, 3.0, 0.22, 3.0)),
    "MountainCar-v0": Case((-1.2, -0.07), (0.6, 0.07)),
    "MountainCarContinuous-v0": Case((-1.2, -0.07), (0.6, 0.07)),
    "Pendulum-v1": Case((-7.0, -8.0), (7.0, 8.0)),
    "PendulumDiscrete-v1": Case((-7.0, -8.0), (7.0, 8.0)),
}
OUR_OWN = {"CartPoleContinuous-v0", "CartPoleSwingUp-v0"}  # no task of Gymnasium's
HELD = sorted(CASES)


def test_every_native_task_is_held_against_gymnasium():
    assert set(CASES) | OUR_OWN == set(NAMES)
    for name in NAMES:
        original = make_task(name).original
        assert (original is None) == (name in OUR_OWN)
        assert environment(name)[0] == (original or f"upright/{name}")


def original(name):
    return gym.make(environment(name)[0])


def choices(task, env, rng):
    """Some actions: what the task is given, and what Gymnasium's environment is."""
    action = task.spec.action
    if isinstance(action, Choice):
        physical = np.array(action.values)[:, None]  # of double precision
        discrete = isinstance(env.action_space, gym.spaces.Discrete)
        return [*zip(physical, range(action.count) if discrete else physical, strict=True)]
    low, high = env.action_space.low, env.action_space.high
    several = [low, high, *rng.uniform(low, high, (3, len(low)))]
    return [(some, some) for some in np.float64(several)]


@pytest.fixture(scope="module", params=HELD)
def compared(request):
    """A task, and columns of: state, action, next state, reward, terminated in Gymnasium."""
    name, case, rng = request.param, CASES[request.param], np.random.default_rng(0)
    task, env = make_task(name), original(name).unwrapped
    env.reset()
    rows = []
    for state in rng.uniform(case.low, case.high, (STATES, len(case.low))):
        for action, theirs in choices(task, env, rng):
            env.state = state.copy()
            if name == "CartPole-v1":
                env.steps_beyond_terminated = None
            _, reward, terminated, _, _ = env.step(theirs)
            rows.append((state, action, np.array(env.state), reward, terminated))
    return task, [np.array(column) for column in zip(*rows, strict=True)]


def step_all(task, states, actions):
    """The native task from each of many states."""
    start = task.reset(jax.random.key(0))
    make = jax.vmap(lambda x: start._replace(x=x, steps=jnp.zeros((), jnp.int32)))
    return jax.vmap(task.step)(make(jnp.asarray(states)), jnp.asarray(actions))


def test_equations_agree_with_gymnasium_in_double_precision(compared):
    task, (states, actions, following, rewards, terminated) = compared
    with jax.enable_x64(True):
        state, timestep = step_all(task, states, actions)
    # At rest against a wall a velocity is exactly zero on both sides.
    size = np.where(following == 0, 1, np.abs(following))
    assert (np.abs(np.asarray(state.x) - following) / size).max() < 1e-5
    np.testing.assert_allclose(timestep.reward, rewards, rtol=1e-5, atol=1e-9)
    assert np.array_equal(timestep.terminated, terminated)
    assert terminated.mean() < 0.95


def test_single_precision_is_as_good_as_its_numbers(compared):
    task, (states, actions, following, rewards, terminated) = compared
    state, timestep = step_all(task, states.astype(np.float32), actions)
    assert state.x.dtype == timestep.reward.dtype == jnp.float32
    # Relative to the largest value that a state takes: it may pass through zero, and an angle that
    # wraps around may come out at the other end.
    error = np.abs(np.asarray(state.x) - following)
    near = np.minimum(error, np.abs(error - 2 * np.pi))
    scale = np.abs(states).max(axis=0)
    assert (near / scale).max() < CASES[task.spec.task].single
    # Where an end is decided by the last digit, either answer will do.
    agree = np.asarray(timestep.terminated) == terminated
    assert agree.mean() > 0.9999
    np.testing.assert_allclose(timestep.reward[agree], rewards[agree], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HELD)
def test_an_episode_agrees_with_gymnasium_to_its_end(name):
    task, env = make_task(name), original(name)
    env.reset(seed=1)
    state = task.reset(jax.random.key(0))._replace(x=jnp.array(env.unwrapped.state, jnp.float32))
    step = jax.jit(task.step)
    rng, over = np.random.default_rng(1), False
    while not over:
        some = choices(task, env, rng)
        action, theirs = some[rng.integers(len(some))]
        # Every step from Gymnasium's state: two chaotic systems drift apart by themselves.
        state = state._replace(x=jnp.array(env.unwrapped.state, jnp.float32))
        observation, reward, terminated, truncated, _ = env.step(theirs)
        state, timestep = step(state, action)
        np.testing.assert_allclose(timestep.observation, observation, rtol=1e-4, atol=2e-5)
        np.testing.assert_allclose(timestep.reward, reward, rtol=1e-4, atol=1e-5)
        assert (bool(timestep.terminated), bool(timestep.truncated)) == (terminated, truncated)
        over = terminated or truncated


@pytest.mark.parametrize("name", HELD)
def test_time_limit_bounds_and_sizes_are_gymnasiums(name):
    spec, env = make_task(name).spec, original(name)
    assert spec.episode_steps == env.spec.max_episode_steps
    assert spec.solved_return == env.spec.reward_threshold
    assert spec.observation_size == env.observation_space.shape[0]
    if isinstance(spec.action, Choice):
        return
    bounds = [(channel.minimum, channel.maximum) for channel in spec.action.channels]
    space = env.action_space
    np.testing.assert_array_equal(np.transpose(bounds), [space.low, space.high])


@pytest.mark.parametrize("name", HELD)
def test_start_states_are_as_gymnasiums(name):
    task, env = make_task(name), original(name).unwrapped
    ours = np.asarray(jax.vmap(task.reset)(jax.random.split(jax.random.key(0), 2000)).x)
    theirs = []
    for seed in range(2000):
        env.reset(seed=seed)
        theirs.append(np.array(env.state, np.float64))
    for q in (0.01, 0.25, 0.5, 0.75, 0.99):
        spread = np.std(theirs, axis=0) + 1e-9
        difference = np.quantile(ours, q, axis=0) - np.quantile(theirs, q, axis=0)
        # Standard deviation of the difference of two medians of 2000 uniform numbers: 0.055
        assert (np.abs(difference) / spread).max() < 0.25, q


def test_time_limit_truncates_and_does_not_terminate():
    task = make_task("CartPole-v1")
    state = task.reset(jax.random.key(0))._replace(x=jnp.zeros(4))
    _, before = task.step(state._replace(steps=jnp.int32(498)), jnp.zeros(1))
    _, at_limit = task.step(state._replace(steps=jnp.int32(499)), jnp.zeros(1))
    assert not before.truncated
    assert at_limit.truncated
    assert not at_limit.terminated


def test_a_heavier_pole_changes_what_follows_from_it():
    """Parameters are primitives: nothing derived is stored that a sweep could leave behind."""
    light, heavy = CartPoleTask(), replace(CartPoleTask(), plant=CartPole(pole_mass=0.5))
    state = light.reset(jax.random.key(0))._replace(x=jnp.array([0.0, 0.0, 0.1, 1.0]))
    after = [task.step(state, jnp.array([10.0]))[0].x for task in (light, heavy)]
    # By hand, cart 1 kg, half length 0.5 m, angle 0.1 rad, 1 rad/s, 10 N, 0.02 s:
    # push = (10 + m 0.5 sin 0.1) / (1 + m); m = 0.1: 9.0954470, m = 0.5: 6.6833056
    # theta'' = (9.8 sin 0.1 - push cos 0.1) / (0.5 (4/3 - m cos^2 0.1 / (1 + m)))
    #         = -8.0716401 / 0.6216652 = -12.983903;  -5.6715494 / 0.5016611 = -11.305539
    np.testing.assert_allclose(after[0][3], 1 + 0.02 * -12.983903, rtol=1e-5)
    np.testing.assert_allclose(after[1][3], 1 + 0.02 * -11.305539, rtol=1e-5)


def test_any_force_moves_a_continuous_cart_pole_as_much():
    """Cart 1 kg, pole 0.1 kg, upright and at rest: x'' = 0.97560976 force (test_bridge)."""
    task = make_task("CartPoleContinuous-v0")
    state = task.reset(jax.random.key(0))._replace(x=jnp.zeros(4))
    for force in (-10.0, 0.0, 2.5):
        after, timestep = task.step(state, jnp.array([force]))
        np.testing.assert_allclose(after.x[1], 0.02 * 0.97560976 * force, rtol=1e-5)
        assert timestep.reward == 1


def test_the_reward_of_a_swing_up_is_that_of_its_formula():
    task = make_task("CartPoleSwingUp-v0")
    state = task.reset(jax.random.key(0))
    upright, hanging = jnp.zeros(4), jnp.array([0.0, 0.0, np.pi, 0.0])
    rest = jnp.zeros(1)
    np.testing.assert_allclose(task.step(state._replace(x=upright), rest)[1].reward, 1.0)
    _, below = task.step(state._replace(x=hanging), rest)
    np.testing.assert_allclose(below.reward, 0.0, atol=1e-6)
    # At half of the track, 1.2 m: 0.05 / 4 less, and for half of the force 0.01 / 4.
    aside = state._replace(x=jnp.array([1.2, 0.0, 0.0, 0.0]))
    np.testing.assert_allclose(task.step(aside, rest)[1].reward, 1 - 0.0125, rtol=1e-5)
    pushed, timestep = task.step(aside, jnp.array([5.0]))
    position, angle = pushed.x[0], pushed.x[2]
    expected = (1 + np.cos(angle)) / 2 - 0.05 * (position / 2.4) ** 2 - 0.0025
    np.testing.assert_allclose(timestep.reward, expected, rtol=1e-6)


def test_a_swing_up_starts_hanging_and_ends_off_the_track():
    task = make_task("CartPoleSwingUp-v0")
    starts = jax.vmap(task.reset)(jax.random.split(jax.random.key(0), 100))
    assert np.abs(np.asarray(starts.x) - [0, 0, np.pi, 0]).max() <= 0.0501
    state = task.reset(jax.random.key(0))
    _, inside = task.step(state._replace(x=jnp.array([2.3, 0.0, np.pi, 0.0])), jnp.zeros(1))
    _, outside = task.step(state._replace(x=jnp.array([2.39, 3.0, np.pi, 0.0])), jnp.zeros(1))
    assert not inside.terminated
    assert outside.terminated


def test_a_controller_swings_the_pole_up_and_keeps_the_cart_on_its_track():
    """Energy shaping (Astrom, Furuta 2000), then state feedback: the task can be done."""
    task = make_task("CartPoleSwingUp-v0")
    state, step, total = task.reset(jax.random.key(0)), jax.jit(task.step), 0.0
    for _ in range(task.episode_steps):
        position, velocity, angle, rate = np.asarray(state.x, np.float64)
        lean = (angle + np.pi) % (2 * np.pi) - np.pi
        if abs(lean) < 0.4 and abs(rate) < 4:
            force = position + 2 * velocity + 40 * lean + 8 * rate
        else:
            # Of the pole about its hinge, 0 at rest upright; moment of inertia 4/3 m l^2.
            energy = 0.1 * 0.25 * 4 / 3 * rate**2 / 2 + 0.1 * 9.8 * 0.5 * (np.cos(angle) - 1)
            push = np.clip(60 * energy * rate * np.cos(angle), -6, 6)
            force = push - 4 * position - 2 * velocity
        action = task.spec.action.physical(np.array([force], np.float32))
        state, timestep = step(state, action)
        total += float(timestep.reward)
        assert not timestep.terminated
    assert timestep.truncated
    assert timestep.observation[2] > 0.999  # cosine of the angle
    assert total > 350


def test_a_swinging_pole_keeps_its_energy():
    """Without a force, 10 s from the horizontal: the potential energy of the same height again."""
    task = replace(make_task("CartPoleSwingUp-v0"), position_limit=100.0)
    state = task.reset(jax.random.key(0))._replace(x=jnp.array([0.0, 0.0, np.pi / 2, 0.0]))

    def energy(x):
        # Cart 1 kg; pole 0.1 kg, half length 0.5 m, moment of inertia about its centre m l^2 / 3.
        _, v, angle, rate = np.asarray(x, np.float64)
        along, up = v + 0.5 * rate * np.cos(angle), 0.5 * rate * np.sin(angle)
        kinetic = v**2 + 0.1 * (along**2 + up**2) + 0.1 * 0.25 / 3 * rate**2
        return kinetic / 2 + 0.1 * 9.8 * 0.5 * np.cos(angle)

    before, step = energy(state.x), jax.jit(task.step)
    for _ in range(500):
        state, _ = step(state, jnp.zeros(1))
    assert abs(energy(state.x) - before) < 1e-3  # of 0.49 J that it has hanging
