"""Gymnasium's environments, as agents and policies see them."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from upright.bridge.flat import Flat, SpacesError, make_env
from upright.bridge.spec import read_spec
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


@pytest.fixture
def boxed(monkeypatch):
    """Makes the environment for agents of one with this action space."""

    def make(space, action=None):
        spec = gym.envs.registration.EnvSpec("Boxed-v0", lambda: Boxed(space))
        monkeypatch.setitem(gym.registry, "Boxed-v0", spec)
        return make_env("Boxed-v0", action)

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
