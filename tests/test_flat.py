"""Gymnasium's environments, as agents and policies see them."""

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from upright.bridge.flat import Flat, SpacesError, make_env
from upright.bridge.spec import read_spec
from upright.bridge.values import EnvironmentFailedError
from upright.errors import UprightError
from upright.spec import Channel, Choice, Continuous, Spec, Vector
from upright.tasks.catalogue import make_task


class Boxed(gym.Env):
    """Observes the action that it was given, and the number of its steps."""

    observation_space = Box(-np.inf, np.inf, (5,))

    def __init__(self, action_space):
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        return np.zeros(5, np.float32), {}

    def step(self, action):
        assert action in self.action_space
        return np.append(np.ravel(action), 1.0).astype(np.float32), 0.0, False, False, {}


class Gives(Boxed):
    """Gives what it is told to."""

    def __init__(self, observation=(0, 0, 0, 0, 0), reward=0.0, terminated=False):
        super().__init__(Discrete(2))
        self.given = observation, reward, terminated

    def step(self, action):
        return *self.given, False, {}


class Tensor:
    """One number, in an array that NumPy may not see, as PyTorch's that keep gradients."""

    def __array__(self, *arguments, **options):
        raise RuntimeError("detach it first")

    def item(self):
        return 1.0


ONES = [
    *(1, True, np.float32(1), np.float64(1), np.ones((1, 1)), np.array(1.0, object)),
    *(jnp.ones(1), jnp.ones((), int), Tensor()),
]


@pytest.fixture
def boxed(register):
    """Makes the environment for agents of one with this action space."""

    def make(space, action=None):
        return make_env(register("Boxed-v0", lambda: Boxed(space)), action)

    return make


def test_an_agent_gives_a_vector_where_the_environment_wants_an_array(boxed):
    low, high = np.array([[-1, 0], [-2, -3]]), np.array([[1, 2], [0, 3]])
    env = boxed(Box(low.astype(np.float32), high.astype(np.float32)))
    spec = read_spec(env, "Boxed-v0")
    assert isinstance(spec.action, Continuous)
    assert [(c.name, c.minimum, c.maximum) for c in spec.action.channels] == [
        ("action[0, 0]", -1, 1),
        ("action[0, 1]", 0, 2),
        ("action[1, 0]", -2, 0),
        ("action[1, 1]", -3, 3),
    ]
    assert [(c.offset, c.scale) for c in spec.action.channels] == [(0, 1), (1, 1), (-1, 1), (0, 3)]
    assert env.action_space == Box(low.ravel(), high.ravel(), dtype=np.float32)
    env.reset()
    np.testing.assert_array_equal(env.step([0.5, 1.5, -1.0, 2.0])[0], [0.5, 1.5, -1.0, 2.0, 1])
    # Beyond its bounds the bound.
    np.testing.assert_array_equal(env.step([9, -9, 9, -9])[0], [1, 0, 0, -3, 1])


def test_a_choice_gives_its_values_to_a_continuous_environment():
    env = make_env("Pendulum-v1", Choice("torque", "N m", (-2.0, 0.0, 2.0)))
    assert env.action_space == Discrete(3)
    env.reset(seed=0)
    env.step(2)
    assert env.unwrapped.last_u == 2.0


def test_the_native_pendulums_are_judged_by_gymnasiums():
    for name, space in (("Pendulum-v1", Box), ("PendulumDiscrete-v1", Discrete)):
        env = make_env("Pendulum-v1", make_task(name).spec.action)
        assert isinstance(env, Flat)
        assert isinstance(env.action_space, space)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Box(-np.inf, np.inf, (2,)), r"its action Box.* is not between two finite bounds; give it"),
        (
            MultiDiscrete([2, 3]),
            r"its action is MultiDiscrete\(\[2 3\]\); agents need Discrete, or",
        ),
        (
            Box(0, 255, (2,), np.uint8),
            r"its action is Box.*uint8\); agents need Discrete, or a Box",
        ),
    ],
)
def test_an_action_that_is_no_numbers_between_bounds_is_one_line(boxed, space, message):
    with pytest.raises(SpacesError, match=rf"^task 'Boxed-v0': [^\n]*{message}[^\n]*$"):
        boxed(space)


def test_an_environments_own_spec_must_have_the_kind_of_its_action(boxed):
    env = boxed(Box(-1, 1, (1,)))
    channels = Vector((Channel("x", "m"),) * 5)
    own = Spec("own", channels, Choice("force", "N", (1.0,)), dt=None, episode_steps=None)
    env.unwrapped.upright_spec = own
    with pytest.raises(UprightError, match="the action of its upright_spec is a Choice, and its"):
        read_spec(env, "Boxed-v0")


@pytest.mark.parametrize("one", ONES, ids=repr)
def test_a_reward_is_one_number_whoever_made_its_array(one):
    reward = make_env(lambda: Gives(reward=one)).step(0)[1]
    assert (reward, type(reward)) == (1.0, float)


def test_a_flag_is_one_truth_value_whoever_made_its_array():
    for one in (True, np.bool_(True), np.ones(1, bool), 1, jnp.array(True), jnp.ones(1, int)):
        assert make_env(lambda one=one: Gives(terminated=one)).step(0)[2] is True


NO_NUMBERS = {
    "text": ["1"] * 5,
    "None": [None, 1, 1, 1, 1],
    "complex": [1j] * 5,
    "of different lengths": [[1], [1, 2], 3, 4, 5],
    "large": [10**5000] * 5,
}


@pytest.mark.parametrize("what", NO_NUMBERS)
def test_an_observation_that_is_no_numbers_is_said(what):
    env = make_env(lambda: Gives(observation=NO_NUMBERS[what]))
    with pytest.raises(EnvironmentFailedError, match=r"^the .*observation is .*must be numbers$"):
        env.step(0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"observation": [1e39, 0, 0, 0, 0]}, "observation is not finite in single precision"),
        ({"reward": "1.0"}, "reward is '1.0'; it must be numbers"),
        ({"reward": None}, "reward is None; it must be numbers"),
        ({"reward": [1.0]}, r"reward is \[1.0\] \(list\); it must be one number"),
        ({"reward": jnp.ones(2)}, r"reward is \[1.0, 1.0\] .*; it must be one number"),
        ({"reward": np.timedelta64(1, "ns")}, "reward is 1 of dtype timedelta64.*be numbers"),
        ({"reward": 10**5000}, "reward is a number of more than 40 digits; it must be numbers"),
        ({"reward": np.ma.masked}, "reward is .*; it must be numbers"),
        ({"reward": np.nan}, "reward is not finite in single precision: nan"),
        ({"terminated": "no"}, "terminated is 'no'.*; it must be True or False"),
        ({"terminated": jnp.ones(2, bool)}, "terminated is .*; it must be True or False"),
    ],
)
def test_a_step_that_gives_something_else_is_said(given, said):
    with pytest.raises(EnvironmentFailedError, match=said):
        make_env(lambda: Gives(**given)).step(0)


class Broken(Gives):
    """Raises what it is told to, in its step or in its making."""

    def __init__(self, step=None, make=None):
        super().__init__()
        self.error = step
        if make:
            raise make

    def step(self, action):
        if self.error:
            raise self.error
        return *super().step(action), "one too many"


class Panic(BaseException):
    """As what an environment in Rust raises."""


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"step": Panic("no air")}, "^the environment's step raised Panic: no air$"),
        ({"step": KeyError("arm")}, "^the environment's step raised KeyError: 'arm'$"),
        ({"step": SystemExit("bye")}, "^the environment's step raised SystemExit: bye$"),
        ({}, "step does not give 5 values: too many .*; it must give observation, reward"),
        ({"make": Panic("no air")}, "cannot be made: no air$"),
        ({"make": KeyError("arm")}, "cannot be made: KeyError: 'arm'$"),
    ],
)
def test_whatever_an_environment_raises_is_said(broken, said):
    with pytest.raises(UprightError, match=said):
        # A time limit takes the five values apart before we see them.
        make_env(lambda: gym.wrappers.TimeLimit(Broken(**broken), 9)).step(0)


@pytest.mark.parametrize("where", ["step", "make"])
def test_ctrl_c_in_an_environment_is_no_error_of_its_own(where):
    with pytest.raises(KeyboardInterrupt):
        make_env(lambda: Broken(**{where: KeyboardInterrupt()})).step(0)
