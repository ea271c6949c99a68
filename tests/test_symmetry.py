"""What a mirror promises, and what is said of a task that breaks it."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upright.errors import UprightError
from upright.spec import Mirror
from upright.tasks.cartpole import CartPoleTask
from upright.tasks.catalogue import NAMES, make_task
from upright.tasks.pendulum import PendulumDiscreteTask
from upright.tasks.symmetry import check_mirror, random_action

MIRRORED = [name for name in NAMES if make_task(name).spec.mirror]
# States far beyond what random play reaches.
WIDTH = {4: (2.5, 3.0, 3.1, 5.0), 2: (3.1, 8.0)}


def test_all_but_the_cars_in_a_valley_are_symmetric():
    assert set(NAMES) - set(MIRRORED) == {"MountainCar-v0", "MountainCarContinuous-v0"}


@pytest.mark.parametrize("name", MIRRORED)
def test_a_step_of_the_mirrored_task_is_the_mirrored_step(name, rng):
    task = make_task(name)
    spec, mirror = task.spec, task.spec.mirror
    start = task.reset(jax.random.key(0))
    width = WIDTH[len(start.x)]
    xs = jnp.asarray(rng.uniform(-1, 1, (1000, len(start.x))) * width, jnp.float32)
    states = jax.vmap(lambda x: start._replace(x=x))(xs)
    keys = jax.random.split(jax.random.key(1), 1000)
    actions, opposites = jax.vmap(lambda key: random_action(spec, key))(keys)
    after, seen = jax.vmap(task.step)(states, actions)
    mirrored, shown = jax.vmap(task.step)(jax.vmap(task.mirror)(states), opposites)
    expected = jax.vmap(task.mirror)(after)
    np.testing.assert_allclose(mirrored.x, expected.x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        shown.observation, mirror.observation(seen.observation), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(shown.reward, seen.reward, rtol=1e-5, atol=1e-5)
    assert np.array_equal(shown.terminated, seen.terminated)
    assert np.array_equal(shown.truncated, seen.truncated)
    assert not np.allclose(mirrored.x, after.x)


@pytest.mark.parametrize("name", NAMES)
def test_every_native_task_keeps_its_promise(name):
    check_mirror(make_task(name))


@dataclass(frozen=True)
class Lopsided(CartPoleTask):
    """A wind from one side."""

    def step(self, state, action):
        return super().step(state, action + 1.0)


@dataclass(frozen=True)
class Greedy(CartPoleTask):
    """Rewards one side of the track."""

    def step(self, state, action):
        state, timestep = super().step(state, action)
        return state, timestep._replace(reward=state.x[0])


@dataclass(frozen=True)
class Claimed(CartPoleTask):
    """Its mirror says that the cart's velocity keeps its sign."""

    @property
    def spec(self):
        return replace(super().spec, mirror=Mirror((-1, 1, -1, -1), action_order=(1, 0)))


class Unmirrored:
    spec = CartPoleTask().spec
    reset = observe = step = staticmethod(lambda *_: None)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Lopsided(), r"'cart velocity' after a step is .* should be .*, 0\.039 m/s off"),
        (Greedy(), r"reward is .* in the mirrored task and should be"),
        (Claimed(), r"'cart velocity' as it is observed is .* off"),
        (Unmirrored(), r"it needs a method mirror\(state\)"),
    ],
)
def test_a_broken_promise_is_told_with_its_channel(task, message):
    with pytest.raises(UprightError, match=rf"^task 'CartPole-v1'[^\n]*{message}"):
        check_mirror(task)


def test_torques_of_one_side_alone_have_no_mirror():
    assert PendulumDiscreteTask(torques=(0.0, 1.0)).spec.mirror is None
    assert PendulumDiscreteTask(torques=(1.0, -1.0)).spec.mirror.action_order == (1, 0)
