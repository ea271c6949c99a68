"""Tasks of one's own: what is asked of them, and where they are known then."""

import subprocess
import sys
from dataclasses import dataclass, replace
from typing import NamedTuple

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest

import upright
from upright.errors import UprightError, UprightWarning
from upright.spec import Channel, Choice, Mirror, Spec, Vector
from upright.tasks import catalogue
from upright.tasks.task import TimeStep, check_task


class State(NamedTuple):
    level: jnp.ndarray
    steps: jnp.ndarray


@dataclass(frozen=True)
class Tank:
    """Keep the level of a tank of water; the simplest task that fulfils the protocol."""

    inflow: float = 0.1
    episode_steps: int = 20

    @property
    def spec(self):
        channel = Channel("level", "m", minimum=0.0)
        action = Choice("inflow", "m/s", (0.0, self.inflow))
        return Spec("Tank-v0", Vector((channel,)), action, 0.1, self.episode_steps)

    def reset(self, key):
        del key
        return State(jnp.ones(()), jnp.zeros((), jnp.int32))

    def observe(self, state):
        return state.level[None]

    def step(self, state, action):
        state = State(jnp.maximum(state.level + action[0] - 0.05, 0), state.steps + 1)
        reward = -((state.level - 1) ** 2)
        over = state.steps >= self.episode_steps
        return state, TimeStep(self.observe(state), reward, jnp.zeros((), bool), over)


@pytest.fixture
def forget(monkeypatch):
    """What a test registers is gone after it."""
    entries, listeners = dict(catalogue._ENTRIES), list(catalogue._listeners)
    yield
    for name in set(catalogue._ENTRIES) - set(entries):
        gym.registry.pop(f"upright/{name}", None)
        del catalogue._ENTRIES[name]
    catalogue._listeners[:] = listeners


@pytest.mark.usefixtures("forget")
def test_a_registered_task_is_native_and_gymnasiums():
    upright.register("Tank-v0", Tank)
    assert "Tank-v0" in catalogue.names()
    assert catalogue.is_native("my_module:Tank-v0")
    assert catalogue.make_task("Tank-v0", {"inflow": 0.2}) == Tank(inflow=0.2)
    assert catalogue.environment("Tank-v0") == ("upright/Tank-v0", {})
    env = gym.make("upright/Tank-v0")
    assert env.spec.max_episode_steps == 20
    env.reset(seed=0)
    # By hand: 1 - 0.05 = 0.95, and the reward is -0.05^2.
    observation, reward, *_ = env.step(0)
    np.testing.assert_allclose(observation, [0.95], rtol=1e-6)
    assert reward == pytest.approx(-0.0025, rel=1e-4)
    levels = gym.make_vec("upright/Tank-v0", num_envs=3, inflow=0.15)
    levels.reset(seed=0)
    np.testing.assert_allclose(levels.step([0, 1, 1])[0], [[0.95], [1.1], [1.1]], rtol=1e-6)


@pytest.mark.usefixtures("forget")
def test_the_last_registration_counts():
    upright.register("Tank-v0", Tank)
    upright.register("Tank-v0", lambda: Tank(episode_steps=7))
    assert catalogue.make_task("Tank-v0").episode_steps == 7
    assert gym.spec("upright/Tank-v0").max_episode_steps == 7


@pytest.mark.parametrize("first", ["upright", "gymnasium"])
def test_in_whatever_order_gymnasium_is_imported_it_knows_them(first, tmp_path):
    second = {"upright": "gymnasium", "gymnasium": "upright"}[first]
    program = f"""
import sys
sys.path.append({str(__file__.rpartition("/")[0])!r})
import {first}
import {second}
from test_catalogue import Tank
upright.register("Tank-v0", Tank)
assert gymnasium.make("upright/Tank-v0").reset(seed=0)[0] == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("Tank", Tank, "task id 'Tank'; it must be a name with a version, as Wheel-v0"),
        ("a b-v0", Tank, "it must be a name with a version"),
        ("CartPole-v1", Tank, "task id 'CartPole-v1' is upright's own; choose another one"),
        ("Other-v0", Tank, "its spec says task='Tank-v0'; the two must be the same"),
        ("Tank-v0", lambda: 5, "task int: it is 5; it must be a frozen dataclass"),
        ("Tank-v0", lambda: Tank, "it must be a frozen dataclass, made"),
    ],
)
@pytest.mark.usefixtures("forget")
def test_what_cannot_be_registered_is_one_line(name, make, message):
    with pytest.raises(UprightError) as caught:
        upright.register(name, make)
    assert message in str(caught.value)
    assert "Tank-v0" not in catalogue.names()


def broken(**methods):
    """A tank with some methods replaced; None: without."""
    kind = dataclass(frozen=True)(type("Broken", (Tank,), methods))
    return kind()


SPEC = Tank().spec


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"observe": None}, "task Broken has no method observe"),
        ({"step": None}, "task Broken has no method step"),
        ({"spec": 3}, "its spec is 3; it must be an upright.Spec"),
        ({"spec": replace(SPEC, dt=None)}, "its spec has no dt"),
        ({"spec": replace(SPEC, episode_steps=9)}, "needs a field episode_steps, the time limit"),
        ({"spec": replace(SPEC, mirror=Mirror((1,)))}, "has no method mirror(state)"),
        ({"reset": lambda self, key: 1 / 0}, "reset(key) fails: division by zero"),
        (
            {"observe": lambda self, state: state.level},
            "observe(state) has shape [] of float32; it must be [1] of floating-point numbers",
        ),
        (
            {"observe": lambda self, state: jnp.zeros(2)},
            "observe(state) has shape [2] of float32; it must be [1]",
        ),
        (
            {"observe": lambda self, state: (state.level,)},
            "observe(state) is a tuple; it must be an array",
        ),
        (
            {"step": lambda self, state, action: state},
            "step(state, action [1]) must give the next state and a TimeStep",
        ),
        (
            {"step": lambda self, state, action: (state, _timestep(observation=jnp.zeros((1, 1))))},
            "observation of step(state, action [1]) has shape [1, 1]",
        ),
        (
            {"step": lambda self, state, action: (state, _timestep(reward=jnp.zeros(1)))},
            "reward of step(state, action [1]) has shape [1] of float32; it must be []",
        ),
        (
            {"step": lambda self, state, action: (state, _timestep(terminated=jnp.zeros(())))},
            "terminated of step(state, action [1]) has shape [] of float32; it must be [] of truth",
        ),
        (
            {"step": lambda self, state, action: (state.level, _timestep())},
            "gives a state of 1 arrays (float32[]); reset gives 2 arrays (float32[], int32[])",
        ),
    ],
)
def test_a_task_that_breaks_the_protocol_is_told_where(methods, message):
    with pytest.raises(UprightError) as caught:
        check_task(broken(**methods))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def _timestep(**changes):
    no = jnp.zeros((), bool)
    return TimeStep(jnp.zeros(1), jnp.zeros(()), no, no)._replace(**changes)


def test_a_task_that_cannot_be_hashed_is_told():
    @dataclass(frozen=True)
    class Listed(Tank):
        gains: object = None

    with pytest.raises(UprightError, match=r"unhashable type: 'list'; make it a frozen dataclass"):
        check_task(Listed(gains=[1.0]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Cartpole-v1", "unknown task 'Cartpole-v1'; did you mean CartPole-v1? `upright tasks`"),
        ("Foo-v0", "unknown task 'Foo-v0'; `upright tasks` lists what is there"),
    ],
)
def test_an_unknown_id_says_where_to_look(name, message):
    with pytest.raises(UprightError) as caught:
        catalogue.make_task(name)
    assert str(caught.value).startswith(message)


def test_only_with_gymnasiums_physics_is_its_environment_the_judge():
    assert catalogue.environment("CartPole-v1") == ("CartPole-v1", {})
    assert catalogue.environment("CartPole-v1", {"gravity": 3.7}) == (
        "upright/CartPole-v1",
        {"gravity": 3.7},
    )
    assert catalogue.environment("CartPole-v1", {}, {"gravity": (1.0, 2.0)}) == (
        "upright/CartPole-v1",
        {"randomise": {"gravity": (1.0, 2.0)}},
    )
    assert catalogue.environment("LunarLander-v3") == ("LunarLander-v3", {})
    with pytest.raises(UprightError, match="of native tasks alone, and 'LunarLander-v3' is none"):
        catalogue.environment("LunarLander-v3", {"gravity": 3.7})


@dataclass(frozen=True)
class Crooked(Tank):
    """Says that it mirrors, and its water level is no mirror of itself."""

    @property
    def spec(self):
        return replace(super().spec, mirror=Mirror((-1,), action_order=(1, 0)))

    def mirror(self, state):
        return state._replace(level=-state.level)


def test_a_task_that_does_not_mirror_as_it_says_is_not_trained(tmp_path, forget):
    upright.register("Tank-v0", Crooked)
    with pytest.raises(UprightError, match="not symmetric as its mirror says: 'level'"):
        upright.train("Tank-v0", seeds=1, steps=1000, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@dataclass(frozen=True)
class Leaking(Tank):
    """Its level is NaN after a step."""

    def step(self, state, action):
        state, timestep = super().step(state, action)
        nan = timestep.observation * jnp.nan
        return state._replace(level=nan[0]), timestep._replace(observation=nan, reward=nan[0])


def test_a_task_that_yields_nan_is_told_in_one_line(tmp_path, forget):
    upright.register("Tank-v0", Leaking)
    with pytest.warns(UprightWarning, match="not finite.*, and 1 more of 2 failed; fix it"):
        run = upright.train("Tank-v0", seeds=2, steps=1000, out=tmp_path / "run")
    assert run.status == "failed"
    for result in run.results:
        assert result.state == "failed"
        assert "a reward or observation of the task is not finite" in result.error


@dataclass(frozen=True)
class Forgetful(Tank):
    """Does not count its steps."""

    def step(self, state, action):
        following, timestep = super().step(state, action)
        return following._replace(steps=state.steps), timestep


def test_a_task_that_forgets_its_time_limit_is_not_trained(tmp_path, forget):
    upright.register("Tank-v0", Forgetful)
    with pytest.raises(UprightError, match="'Tank-v0' goes on after 20 steps, its episode_steps"):
        upright.train("Tank-v0", seeds=1, steps=1000, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    problems = upright.doctor("Tank-v0", seeds=1, steps=1000).problems
    assert [finding.check for finding in problems] == ["time limit"]


@dataclass(frozen=True)
class Mistyped(Tank):
    """A slip of the pen within its spec."""

    @property
    def spec(self):
        return Spec("Tank-v0", self.observaton)


def test_an_error_within_a_spec_is_told_as_it_is():
    with pytest.raises(UprightError, match=r"its spec fails with AttributeError: .*observaton"):
        check_task(Mistyped())
