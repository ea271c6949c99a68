"""The native tasks through Gymnasium: gymnasium.make and gymnasium.make_vec."""

import subprocess
import sys

import gymnasium as gym
import jax
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from upright.errors import INSTALL_RENDER, UprightError
from upright.tasks.catalogue import NAMES, make_task

CHANGED = {
    "Acrobot-v1": {"gravity": 3.7, "length_1": 1.5, "torque": 2, "rate_limits": [6.0, 12.0]},
    "CartPole-v1": {"gravity": 3.7, "half_length": 1.0, "force": 5.0},
    "CartPoleContinuous-v0": {"gravity": 3.7, "half_length": 1.0, "force": 5.0},
    "CartPoleSwingUp-v0": {"gravity": 3.7, "half_length": 1.0, "force": 5.0},
    "MountainCar-v0": {"gravity": 0.002, "left_wall": -1.5, "goal": 0.4},
    "MountainCarContinuous-v0": {"gravity": 0.002, "left_wall": -1.5, "force": 0.002},
    "Pendulum-v1": {"gravity": 3.7, "length": 0.5, "torque": 1.0},
    "PendulumDiscrete-v1": {"gravity": 3.7, "length": 0.5, "torques": np.linspace(-1, 1, 3)},
}


@pytest.fixture(autouse=True)
def no_display(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def make(name, **options):
    return gym.make(f"upright/{name}", **options)


def some_action(env, rng):
    space = env.action_space
    return (
        rng.integers(space.n)
        if isinstance(space, Discrete)
        else rng.uniform(space.low, space.high).astype(np.float32)
    )


def extremes(env):
    """All actions of a Discrete; the two ends of a Box."""
    space = env.action_space
    return range(space.n) if isinstance(space, Discrete) else (space.low, space.high)


def episode(env, seed, actions):
    """Observations of one episode, the first one included."""
    observations = [env.reset(seed=seed)[0]]
    for action in actions:
        observation, _, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        if terminated or truncated:
            break
    return np.stack(observations)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("changed", [False, True])
# Its advice for continuous actions; ours are in newtons, as its own Pendulum's in newton metres.
@pytest.mark.filterwarnings("ignore:.*recommend using a symmetric and normalized space")
def test_gymnasiums_checker_has_no_objection(name, changed):
    check_env(make(name, **(CHANGED[name] if changed else {})).unwrapped)


@pytest.mark.parametrize(
    "imports",
    [
        "import upright, gymnasium",
        "import gymnasium, upright",
        "import upright, gymnasium; gymnasium.register_envs(upright)",
        "import gymnasium, upright; gymnasium.register_envs(upright)",
        "import upright; from gymnasium.spaces import Box; import gymnasium",
    ],
)
def test_in_whatever_order_they_are_imported_gymnasium_finds_them(imports):
    program = f"""
import sys
{imports}
assert "jax" not in sys.modules
env = gymnasium.make("upright/CartPole-v1")
assert env.reset(seed=0)[0].shape == (4,)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_gymnasium_finds_them_by_one_string():
    program = "import gymnasium; gymnasium.make('upright:upright/CartPole-v1').reset()"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_upright_alone_does_not_import_gymnasium():
    program = "import sys, upright; assert 'gymnasium' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_limit_and_threshold_are_the_tasks(name):
    registered, spec = gym.spec(f"upright/{name}"), make_task(name).spec
    assert registered.max_episode_steps == spec.episode_steps
    assert registered.reward_threshold == spec.solved_return


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("changed", [False, True])
def test_a_step_is_the_native_tasks(name, changed, rng):
    changes = CHANGED[name] if changed else {}
    task, env = make_task(name, changes), make(name, **changes)
    step, observe = jax.jit(task.step), jax.jit(task.observe)
    env.reset(seed=5)
    for _ in range(200):
        state = env.unwrapped.state
        action = some_action(env, rng)
        following, expected = step(state, task.spec.action.physical(action))
        observation, reward, terminated, truncated, info = env.step(action)
        assert np.array_equal(observation, expected.observation)
        assert np.array_equal(observation, observe(following))
        assert reward == expected.reward
        assert terminated == expected.terminated
        assert observation in env.observation_space
        assert [type(value) for value in (reward, terminated, truncated)] == [float, bool, bool]
        assert info == {}
        if terminated or truncated:
            env.reset()


@pytest.mark.parametrize("name", NAMES)
def test_observations_stay_in_their_space_under_a_constant_push(name):
    """The observation that ends an episode included, and those that saturate."""
    env = make(name, max_episode_steps=-1).unwrapped
    for action in extremes(env):
        observations = episode(env, 1, [action] * 300)
        assert all(observation in env.observation_space for observation in observations)
    assert np.full(env.observation_space.shape, np.nan, np.float32) not in env.observation_space


def test_spaces_are_narrow_where_the_plant_saturates():
    spaces = {name: make(name).observation_space for name in NAMES}
    np.testing.assert_allclose(spaces["MountainCar-v0"].high, [0.6, 0.07])
    np.testing.assert_allclose(spaces["MountainCar-v0"].low, [-1.2, -0.07])
    np.testing.assert_allclose(spaces["Pendulum-v1"].high, [1, 1, 8])
    np.testing.assert_allclose(spaces["Acrobot-v1"].high, [1, 1, 1, 1, 4 * np.pi, 9 * np.pi])
    assert spaces["CartPole-v1"].high.min() == np.finfo(np.float32).max


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_repeats_an_episode_and_the_next_one(name, rng):
    first, second = make(name), make(name)
    actions = [some_action(first, rng) for _ in range(50)]
    ours, theirs = episode(first, 7, actions), episode(second, 7, actions)
    assert np.array_equal(ours, theirs)
    next_one, other = first.reset()[0], first.reset(seed=8)[0]
    assert np.array_equal(next_one, second.reset()[0])
    assert not np.array_equal(next_one, ours[0])
    assert not np.array_equal(other, ours[0])


def test_the_time_limit_is_gymnasiums_wrapper():
    env = make("PendulumDiscrete-v1", max_episode_steps=10)
    assert len(episode(env, 0, [0] * 50)) == 11
    assert len(episode(env.unwrapped, 0, [0] * 300)) == 301


def test_without_gravity_or_torque_a_pendulum_keeps_its_rate():
    env = make("PendulumDiscrete-v1", gravity=0.0, torques=(0.0,))
    rates = episode(env, 0, [0] * 100)[:, 2]
    assert rates[0] != 0
    assert np.array_equal(rates, np.full(101, rates[0]))


def test_half_the_force_is_half_the_acceleration():
    # By hand, cart 1 kg, pole 0.1 kg, upright and at rest, together m = 1.1 kg:
    # x'' = force / m (1 + 0.1 / m / (4/3 - 0.1 / m)) = 0.97560976 force
    for force in (10.0, 5.0):
        env = make("CartPole-v1", force=force, start_range=0.0)
        velocity = episode(env, 0, [1])[1, 1]
        np.testing.assert_allclose(velocity, 0.02 * 0.97560976 * force, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_a_keyword(name):
    task = make_task(name)
    parameters = vars(task) | vars(task.plant)
    del parameters["plant"], parameters["episode_steps"]
    assert vars(task).keys().isdisjoint(vars(task.plant))
    assert make_task(name, parameters) == task
    for parameter, value in parameters.items():
        other = tuple(v * 1.01 for v in value) if isinstance(value, tuple) else value * 1.01 + 1e-3
        assert make_task(name, {parameter: other}) != task


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("CartPole-v1", {"gravty": 9.8}, "no parameter 'gravty'; did you mean gravity?"),
        ("CartPole-v1", {"episode_steps": 9}, "the time limit is Gymnasium's max_episode_steps"),
        ("CartPole-v1", {"plant": None}, "no parameter 'plant'"),
        ("CartPole-v1", {"gravity": float("nan")}, "gravity is nan; it must be a number, finite"),
        ("CartPole-v1", {"gravity": 1e39}, "gravity is 1e+39; it must be a number, finite"),
        ("CartPole-v1", {"force": "10"}, "force is '10'; it must be a number, finite"),
        ("CartPole-v1", {"force": True}, "force is True; it must be a number"),
        ("CartPole-v1", {"force": (1.0,)}, "it must be a number, finite"),
        ("CartPole-v1", {"half_length": 0}, "half_length is 0; it must be above 0"),
        ("Acrobot-v1", {"dt": -0.1}, "dt is -0.1; it must be above 0"),
        ("PendulumDiscrete-v1", {"torques": ()}, "it must be numbers, finite"),
        ("PendulumDiscrete-v1", {"torques": (1, "2")}, "it must be numbers, finite"),
        ("Pendulum-v1", {"start": (1, 2, 3)}, "start is (1, 2, 3); it must be 2 numbers"),
        ("Pendulum-v1", {"start": 1.0}, "it must be 2 numbers"),
    ],
)
def test_a_keyword_without_sense_is_one_line(name, changes, message):
    for factory in (gym.make, gym.make_vec):
        with pytest.raises(UprightError) as caught:
            factory(f"upright/{name}", **changes)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_wrong_use_is_told():
    env = make("CartPole-v1").unwrapped
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(UprightError, match="action is 2; it must be an integer from 0 to 1"):
        env.step(2)
    continuous = make("Pendulum-v1").unwrapped
    continuous.reset(seed=0)
    for action in (np.zeros(2), [np.nan], 1.0):
        with pytest.raises(UprightError, match="it must be an array of a finite number"):
            continuous.step(action)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_gymnasiums_and_changes(name):
    env = make(name, render_mode="rgb_array")
    original = gym.make(make_task(name).drawn_by, render_mode="rgb_array")
    env.reset(seed=1)
    original.reset(seed=1)
    before = env.render()
    original.unwrapped.state = np.asarray(env.unwrapped.state.x)
    assert np.array_equal(before, original.render())
    assert len(np.unique(before)) > 2
    for _ in range(5):
        env.step(extremes(env)[0])
    assert not np.array_equal(before, env.render())
    assert env.metadata["render_fps"] == pytest.approx(1 / make_task(name).spec.dt)
    env.close()
    original.close()


def test_a_longer_pole_is_drawn_longer():
    heights = []
    for half_length in (0.5, 1.0):
        env = make("CartPole-v1", render_mode="rgb_array", half_length=half_length)
        env.reset(seed=1)
        pole = (env.render() == (202, 152, 101)).all(axis=2)
        heights.append(np.ptp(np.flatnonzero(pole.any(axis=1))))
        env.close()
    assert heights[1] == pytest.approx(2 * heights[0], rel=0.1)


def test_without_pygame_the_error_says_how_to_install_it(monkeypatch):
    env = make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=0)
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(UprightError) as caught:
        env.render()
    assert str(caught.value) == f"cannot render: pygame is not installed; {INSTALL_RENDER}"


def assert_same(ours, theirs):
    """Two returns of reset or step, to the rounding of single precision."""
    assert len(ours) == len(theirs)
    for our, their in zip(ours[:-1], theirs[:-1], strict=True):
        assert our.dtype == their.dtype
        np.testing.assert_allclose(our, their, rtol=1e-4, atol=1e-5)
    ours, theirs = ours[-1], theirs[-1]
    assert ours.keys() == theirs.keys()
    if ours:
        assert ours["final_info"] == theirs["final_info"]
        assert np.array_equal(ours["_final_obs"], theirs["_final_obs"])
        assert np.array_equal(ours["_final_info"], theirs["_final_info"])
        for our, their in zip(ours["final_obs"], theirs["final_obs"], strict=True):
            assert (our is None) == (their is None)
            if our is not None:
                np.testing.assert_allclose(our, their, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_vector_is_as_many_single_environments(name, mode, rng):
    options = {"max_episode_steps": 15, **CHANGED[name]}
    ours = gym.make_vec(f"upright/{name}", num_envs=4, autoreset_mode=mode, **options)
    theirs = SyncVectorEnv([lambda: make(name, **options)] * 4, autoreset_mode=mode)
    single = make(name, **options)
    for space in ("observation_space", "action_space", "single_observation_space"):
        assert getattr(ours, space) == getattr(theirs, space)
    assert ours.metadata["autoreset_mode"] is mode
    for seed in (3, [5, None, 5, 0]):
        assert_same(*(envs.reset(seed=seed) for envs in (ours, theirs)))
        ends = 0
        for step in range(50):
            if step == 5:  # from here on they end at different times
                mask = np.array([True, False, True, False])
                assert_same(*(e.reset(options={"reset_mask": mask}) for e in (ours, theirs)))
            actions = np.array([some_action(single, rng) for _ in range(4)])
            results = [envs.step(actions) for envs in (ours, theirs)]
            assert_same(*results)
            ended = results[0][2] | results[0][3]
            ends += ended.sum()
            if mode is AutoresetMode.DISABLED and ended.any():
                assert_same(*(e.reset(options={"reset_mask": ended}) for e in (ours, theirs)))
        assert ends >= 8


def test_what_a_vector_returned_belongs_to_the_caller():
    envs = gym.make_vec("upright/CartPole-v1", num_envs=2)
    first = {"reset_mask": np.array([True, False])}
    for returned in (envs.reset(seed=0)[0], envs.step([0, 1])[0]):
        copy = returned.copy()
        following, _ = envs.reset(options=first)
        assert np.array_equal(returned, copy)
        returned[:] = 9
        again, _ = envs.reset(options=first)
        assert np.array_equal(again[1], following[1])
        assert not np.array_equal(again[0], following[0])


def test_a_vector_without_a_limit_goes_on():
    envs = gym.make_vec("upright/PendulumDiscrete-v1", num_envs=2, max_episode_steps=-1)
    envs.reset(seed=0)
    assert not any(envs.step([0, 0])[3].any() for _ in range(250))
    limited = gym.make_vec("upright/PendulumDiscrete-v1", num_envs=2)
    limited.reset(seed=0)
    truncated = [limited.step([0, 0])[3].all() for _ in range(201)]
    assert np.flatnonzero(truncated).tolist() == [199]


def test_wrong_use_of_a_vector_is_told():
    with pytest.raises(UprightError, match="num_envs is 0; it must be at least 1"):
        gym.make_vec("upright/CartPole-v1", num_envs=0)
    with pytest.raises(UprightError, match="max_episode_steps is 0; it must be at least 1"):
        gym.make_vec("upright/CartPole-v1", max_episode_steps=0)
    envs = gym.make_vec(
        "upright/CartPole-v1", num_envs=2, autoreset_mode="Disabled", max_episode_steps=1
    )
    with pytest.raises(gym.error.ResetNeeded):
        envs.step([0, 0])
    with pytest.raises(gym.error.ResetNeeded):
        envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(UprightError, match="there are 3 seeds for 2 environments"):
        envs.reset(seed=[1, 2, 3])
    envs.reset(seed=0)
    with pytest.raises(UprightError, match=r"actions are \[0, 2\]; they must be in MultiDiscrete"):
        envs.step([0, 2])
    envs.step([0, 0])
    with pytest.raises(UprightError, match=r"environments \[0, 1\] have ended"):
        envs.step([0, 0])
    envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(UprightError, match=r"environments \[1\] have ended"):
        envs.step([0, 0])
    for mask in ([True, False], np.zeros(2, bool), np.ones(3, bool), np.ones(2)):
        with pytest.raises(UprightError, match="it must be a NumPy array of 2 bools, one of them"):
            envs.reset(options={"reset_mask": mask})


def test_a_continuous_action_beyond_its_bounds_is_the_bound():
    for vector in (False, True):
        after = []
        for torque in (2.0, 5.0):
            env = gym.make_vec("upright/Pendulum-v1", 1) if vector else make("Pendulum-v1")
            env.reset(seed=0)
            after.append(env.step([[torque]] if vector else [torque])[0])
        assert np.array_equal(*after)
