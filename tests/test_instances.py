"""The doctor tries what environments share: a simulator, a port, a thread."""

import sqlite3
import threading
import time

import gymnasium as gym
import numpy as np
import pytest

import upright
from upright import DQN
from upright import diagnosis as module
from upright.checks.instances import Cost, check_cost

TASK = "Point-v0"
TINY = DQN(hidden=(8,), gradient_steps=1)


class Point(gym.Env):
    """A point that is pushed to and fro."""

    def __init__(self):
        self.observation_space = gym.spaces.Box(-5, 5, (1,))
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = float(self.np_random.uniform(-1, 1))
        return np.float32([self.x]), {}

    def step(self, action):
        self.x = float(np.clip(self.x + 0.2 * action - 0.1, -5, 5))
        return np.float32([self.x]), -abs(self.x), False, False, {}


@pytest.fixture
def examined(register, monkeypatch):
    """The findings of an environment by check, without the speed, which needs a compiler."""

    def examined(make):
        register(TASK, make, limit=40)
        monkeypatch.setattr(module, "_timed", lambda *_: timed.append(1) or [])
        timed = []
        findings = {f.check: f for f in upright.doctor(TASK, agent=TINY).findings}
        return findings, bool(timed)

    return examined


def test_independent_environments_are_fine(examined):
    findings, timed = examined(Point)
    checks = ("determinism", "threads", "two at a time", "making")
    assert [findings[check].severity for check in checks] == ["fine"] * 4
    assert "mask" not in findings
    assert timed


def test_a_shared_simulator(examined):
    state = {}

    class Shared(Point):
        x = property(lambda _: state["x"], lambda _, value: state.update(x=value))

    findings, timed = examined(Shared)
    found = findings["two at a time"]
    assert (found.severity, "not independent" in found.seen) == ("problem", True)
    assert 'environments="one"' in found.fix
    assert findings["determinism"].severity == "fine"
    assert not timed, "with several of them it would mean nothing"


def test_only_one_at_a_time_is_examined_one_after_the_other(examined):
    alive = []

    class Single(Point):
        def __init__(self):
            if alive:
                raise RuntimeError("the port is in use")
            super().__init__()
            alive.append(self)

        def close(self):
            alive.remove(self)

    findings, timed = examined(Single)
    assert [f.check for f in findings.values() if f.severity == "problem"] == ["two at a time"]
    assert "the port is in use" in findings["two at a time"].seen
    assert findings["two at a time"].fix == 'train one seed with environments="one"'
    assert (timed, alive) == (False, [])


def test_what_cannot_be_closed_and_made_again_is_said(examined):
    made = []

    class Once(Point):
        def __init__(self):
            made.append(self)
            if len(made) > 1:
                raise RuntimeError("the licence is taken")
            super().__init__()

    findings, _ = examined(Once)
    assert "the licence is taken" in findings["environment"].seen
    assert "close()" in findings["environment"].fix


class InMainThread(Point):
    def step(self, action):
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("not here")
        return super().step(action)


class WithDatabase(Point):
    def __init__(self):
        super().__init__()
        self.database = sqlite3.connect(":memory:")

    def step(self, action):
        self.database.execute("select 1")
        return super().step(action)

    def close(self):
        self.database.close()


def test_a_task_of_the_main_thread_alone(examined):
    findings, timed = examined(InMainThread)
    found = findings["threads"]
    assert (found.severity, "RuntimeError: not here" in found.seen) == ("problem", True)
    assert 'environments="one"' in found.fix
    assert not timed


def test_a_task_that_belongs_to_the_thread_that_made_it(examined):
    found = examined(WithDatabase)[0]["threads"]
    assert (found.severity, "belongs to the thread" in found.seen) == ("fine", True)


def test_a_task_that_hangs_in_another_thread(examined, monkeypatch):
    monkeypatch.setattr(module.instances, "_PATIENCE", 0.05)
    free = threading.Event()

    class Waiting(Point):
        def step(self, action):
            if threading.current_thread() is not threading.main_thread():
                free.wait()
                raise RuntimeError("too late")
            return super().step(action)

    findings, _ = examined(Waiting)
    free.set()
    assert "did not come back" in findings["threads"].seen


def test_what_it_takes_to_make_an_environment(examined):
    class Slow(Point):
        def __init__(self):
            time.sleep(0.15)
            super().__init__()

    found = examined(Slow)[0]["making"]
    assert found.seen.startswith("one environment takes 0.")
    assert "20 take" in found.seen
    assert found.severity == "fine"


@pytest.mark.parametrize(
    ("cost", "severity"),
    [(Cost(2.0, 0), "fine"), (Cost(4.0, 0), "advice"), (Cost(0.1, 2**50), "advice")],
)
def test_many_slow_or_large_environments(cost, severity):
    found = check_cost(cost, 20)
    assert (found.severity, bool(found.fix)) == (severity, severity == "advice")
    assert check_cost(Cost(4.0, 0), 1).severity == "fine"


def test_masked_actions_are_said(examined):
    class Masked(Point):
        def reset(self, **options):
            return super().reset(**options)[0], {"action_mask": np.array([1, 0], np.int8)}

    class ByMethod(Point):
        def action_masks(self):
            return np.array([True, False])

    assert "allows 1 of 2" in examined(Masked)[0]["mask"].seen
    assert "action_masks()" in examined(ByMethod)[0]["mask"].seen
