"""The doctor finds each sickness in a task made for it, and leaves healthy tasks alone."""

import json
import warnings
from dataclasses import replace
from functools import partial

import gymnasium as gym
import jax
import numpy as np
import pytest

import upright
from upright import DQN, UprightError
from upright import diagnosis as module
from upright.checks import speed, symmetry
from upright.errors import UprightWarning
from upright.runs import Run
from upright.spec import Channel, Choice, Continuous, Spec, Vector
from upright.tasks.cartpole import CartPoleTask
from upright.tasks.catalogue import NAMES, make_task
from upright.training.config import plan
from upright.training.runners import evaluation_steps

TASK = "Cart-v0"
CONTINUOUS = ("Pendulum-v1", "MountainCarContinuous-v0")
TINY = DQN(hidden=(8,), gradient_steps=1)


class Cart(gym.Env):
    """A cart on a rail that random pushes move to and fro; a healthy task unless told otherwise."""

    def __init__(
        self,
        bound=10.0,
        observe=lambda self: self.x,
        reward=lambda self: -float(np.square(self.x).sum()),
        over=lambda self: (bool(abs(self.x[0]) > 1), False),
        delay=0,
        size=2,
        restart=lambda self: self.np_random.uniform(-0.5, 0.5, 2),
        continuous=False,
    ):
        box = gym.spaces.Box(-2, 4, (1,))
        self.action_space = box if continuous else gym.spaces.Discrete(3)
        self.observation_space = gym.spaces.Box(-bound, bound, (size,))
        self.observe, self.reward, self.over, self.delay = observe, reward, over, delay
        self.restart = restart
        self.episodes = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.restart(self)
        self.waiting = [1] * self.delay
        self.steps = 0
        self.episodes += 1
        return np.float32(self.observe(self)), {}

    def step(self, action):
        self.waiting.append(action)
        push = float(np.ravel(self.waiting.pop(0))[0]) - 1
        self.x = self.x + np.array([0.05 * self.x[1], 0.2 * push - 0.05 * self.x[1]])
        self.steps += 1
        return np.float32(self.observe(self)), self.reward(self), *self.over(self), {}


@pytest.fixture
def register(register):
    return partial(register, TASK, limit=200)


@pytest.fixture
def findings(register, quick):
    """Of a `Cart` with these peculiarities, by check."""

    def findings(agent=TINY, limit=200, budget=None, **options):
        register(lambda: Cart(**options), limit=limit)
        report = upright.doctor(TASK, agent=agent, **(budget or {}))
        assert all(bool(f.fix) == (f.severity != "fine") for f in report.findings)
        return {f.check: f for f in reversed(report.findings)}

    return findings


def ill(findings):
    return {f.check: f.severity for f in findings.values() if f.severity != "fine"}


def test_a_healthy_task_is_left_alone(findings):
    assert ill(findings()) == {}


@pytest.mark.parametrize("name", NAMES)
def test_gymnasiums_tasks_are_left_alone(name, quick):
    for seed in range(3):
        report = upright.doctor(name, seed=1000 * seed)
        # A random pendulum of two links hardly ever gets up, a random car never.
        sparse = name in ("Acrobot-v1", "MountainCar-v0")
        continuous = isinstance(make_task(name).spec.action, Continuous)
        assert [f.check for f in report.problems] == (["agent"] if continuous else []), report
        advice = [f.check for f in report.findings if f.severity == "advice"]
        assert advice == (["rewards"] if sparse else []), (seed, report)


@pytest.mark.parametrize(
    ("options", "severity", "seen", "fix"),
    [
        ({"observe": lambda c: [c.x[0], 3.0]}, "advice", "[1]: constant at 3", "leave out"),
        ({"bound": 1.0}, "advice", "outside its declared bounds", "true bounds"),
        ({"bound": 1e5}, "advice", "changes by only", "narrower bounds"),
        (
            {"bound": np.inf, "observe": lambda c: [1e9 if c.steps == 7 else c.x[0], c.x[1]]},
            "advice",
            "changes by only",
            "clip them",
        ),
    ],
)
def test_observations(findings, options, severity, seen, fix):
    found = findings(**options)["observations"]
    assert (found.severity, seen in found.seen, fix in found.fix) == (severity, True, True), found


def test_observations_without_scaling(findings):
    unscaled = replace(TINY, scale_observations=False)
    assert ill(findings(unscaled)) == {}
    found = findings(unscaled, observe=lambda c: 1000 * c.x, bound=1e4)["observations"]
    assert (found.severity, "up to" in found.seen) == ("advice", True)
    assert found.fix == "set agent.scale_observations"


@pytest.mark.parametrize(
    ("reward", "severity", "seen"),
    [
        (lambda c: 0.0, "advice", "0 always"),
        (lambda c: float(c.x[0] > 0.999 and c.episodes % 9 == 0), "advice", "sparse"),
        (lambda c: 1.0, "fine", "ending later pays"),
        (lambda c: -1.0, "fine", "ending sooner pays"),
    ],
)
def test_rewards(findings, reward, severity, seen):
    found = findings(reward=reward)["rewards"]
    assert (found.severity, seen in found.seen) == (severity, True), found


@pytest.mark.parametrize(
    ("size", "gamma", "severity", "fix"),
    [
        (1e7, 0.99, "problem", "1e-07 * r"),
        (100, 0.99, "advice", "0.01 * r"),
        (1, 0.99, "fine", ""),
        (1, 0.5, "fine", ""),
        (1e-2, 0.5, "advice", "1000 * r"),
        (1, 1.0, "fine", ""),  # the time limit is what counts
    ],
)
def test_reward_scale(findings, size, gamma, severity, fix):
    def reward(cart):
        return size * (0.5 + 0.1 * np.sign(cart.x[0]))

    found = findings(replace(TINY, gamma=gamma), reward=reward)["reward scale"]
    assert found.severity == severity
    assert fix in found.fix


def test_values_that_grow_without_end(findings):
    found = findings(replace(TINY, gamma=1.0), limit=None, reward=lambda c: 1.0 + c.x[0])
    assert found["reward scale"].severity == "advice"
    assert "without end" in found["reward scale"].seen


@pytest.mark.parametrize(
    "over",
    [
        lambda c: (c.steps >= 60, False),
        lambda c: (bool(abs(c.x[0]) > 1) or c.steps >= 40, False),  # some fall before
        lambda c: (c.steps >= 700, False),  # only two episodes
    ],
)
def test_termination_that_is_a_time_limit(findings, over):
    found = findings(limit=None, over=over)["termination"]
    assert found.severity == "problem"
    assert "return truncated" in found.fix


def test_an_observed_end_of_time_is_no_time_limit(findings):
    found = findings(over=lambda c: (c.steps >= 60, False), observe=lambda c: [c.x[0], c.steps / 9])
    assert found["termination"].severity == "fine"


def test_a_continuous_task_is_checked_as_far_as_that_needs_no_agent(findings):
    found = findings(continuous=True)
    assert found["spaces"].seen == "2 observations, 1 continuous action"
    assert ill(found) == {"agent": "problem"}, "DQN has to choose"
    assert {"observations", "rewards", "delay", "determinism"} <= set(found)
    assert {"schedule", "reward scale", "speed"}.isdisjoint(found)


def test_a_continuous_task_that_is_not_deterministic(findings):
    rng = np.random.default_rng()
    found = findings(restart=lambda c: rng.uniform(-0.5, 0.5, 2), continuous=True)
    assert found["determinism"].severity == "problem"


def test_a_missing_time_limit(findings):
    endless = findings(limit=None, over=lambda c: (False, False))["time limit"]
    assert (endless.severity, "2000 steps" in endless.seen) == ("problem", True)
    assert "max_episode_steps" in endless.fix
    assert findings(limit=None)["time limit"].severity == "advice"
    own = findings(limit=None, over=lambda c: (False, c.steps >= 60))["time limit"]
    assert own.severity == "fine"


def test_non_determinism(findings):
    rng = np.random.default_rng()
    found = findings(restart=lambda c: rng.uniform(-0.5, 0.5, 2))["determinism"]
    assert (found.severity, "self.np_random" in found.fix) == ("problem", True)

    def leaking(cart):
        return cart.np_random.uniform(-0.5, 0.5, 2) + 1e-3 * cart.episodes

    found = findings(restart=leaking)["determinism"]
    assert (found.severity, "reset() leaves" in found.fix) == ("problem", True)


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("delay", [1, 2, 4])
def test_a_hidden_delay_and_its_length(findings, delay, continuous):
    found = findings(delay=delay, continuous=continuous)["delay"]
    assert found.severity == "problem"
    assert f"{delay} step{'s' if delay > 1 else ''} late" in found.seen
    assert "into the observation" in found.fix


class Late(gym.ActionWrapper):
    """The action acts some steps later."""

    def __init__(self, env, steps):
        super().__init__(env)
        self.steps = steps

    def reset(self, **options):
        self.waiting = [np.zeros_like(self.action_space.sample())] * self.steps
        return self.env.reset(**options)

    def action(self, action):
        self.waiting.append(action)
        return self.waiting.pop(0)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("task", ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", *CONTINUOUS])
def test_a_hidden_delay_in_gymnasiums_tasks(register, quick, task, steps):
    register(lambda: Late(gym.make(task), steps))
    problems = upright.doctor(TASK, agent=TINY).problems
    misfit = ["agent"] if task in CONTINUOUS else []
    assert [finding.check for finding in problems] == ["delay", *misfit]
    assert f"{steps} step{'s' if steps > 1 else ''} late" in problems[0].seen


def test_velocities_that_are_not_observed(register, quick):
    def positions():
        space = gym.spaces.Box(-5, 5, (2,))
        return gym.wrappers.TransformObservation(gym.make("CartPole-v1"), lambda x: x[::2], space)

    register(positions)
    problems = upright.doctor(TASK, agent=TINY).problems
    assert [finding.check for finding in problems] == ["delay"]
    assert "a state that is not observed" in problems[0].seen
    assert "FrameStackObservation" in problems[0].fix


@pytest.mark.parametrize(
    ("changes", "budget", "severity", "seen"),
    [
        ({"learning_starts": 900}, {"steps": 800}, "problem", "learning starts after 900"),
        ({"epsilon_decay_steps": 1200}, {"steps": 600}, "advice", "epsilon is still 0.55"),
        ({"epsilon_decay_steps": 9000}, {"episodes": 10}, "advice", "epsilon is still"),
        (
            {"learning_rate_decay_steps": 1000, "epsilon_decay_steps": 0},
            {"steps": 900},
            "advice",
            "rate is still 0.0001",
        ),
        (
            {"replay_size": 20, "batch_size": 8},
            {"steps": 9000},
            "advice",
            "replay_size holds 20 steps",
        ),
        ({}, {"steps": 9000}, "fine", "9,000 steps"),
        ({"epsilon_start": 0.1}, {"steps": 600}, "fine", "600 steps"),
    ],
)
def test_schedules_against_the_budget(findings, changes, budget, severity, seen):
    found = findings(replace(TINY, **changes), budget=budget)["schedule"]
    assert (found.severity, seen in found.seen) == (severity, True), found


def test_a_symmetry_that_is_there_and_one_that_is_none():
    assert [found.severity for found in symmetry.check(make_task("CartPole-v1"))] == ["fine"]
    assert symmetry.check(make_task("MountainCar-v0")) == [], "it claims none"

    class Crooked(CartPoleTask):
        """As if the mirrored cart went on at the same velocity."""

        @property
        def spec(self):
            mirror = replace(super().spec.mirror, observation_signs=(-1, 1, -1, -1))
            return replace(super().spec, mirror=mirror)

    (found,) = symmetry.check(Crooked())
    assert found.severity == "problem"
    assert "'cart velocity'" in found.seen
    assert "m/s off" in found.seen
    assert "spec.mirror" in found.fix


def test_a_failing_environment_is_a_finding(findings):
    def broken(cart):
        if cart.steps == 9:
            raise RuntimeError("no more air")
        return 1.0

    found = findings(reward=broken)
    assert found["environment"].severity == "problem"
    assert (
        "in step 9, reset seed 0, the environment's step raised RuntimeError: no more air"
        in found["environment"].seen
    )
    assert "delay" not in found


def test_which_of_the_two_limits():
    slow = speed.check(speed.Speed(100.0, 190.0, cores=2, compiled=False), 1e4, 20, evaluated=0.0)
    assert slow[0].severity == "advice"
    assert "95% of the time" in slow[0].seen
    assert "profile step()" in slow[0].fix
    fast = speed.check(speed.Speed(2e4, 4e3, cores=2, compiled=False), 1e4, 20, evaluated=2e3)
    assert fast[0].severity == "fine"
    assert "learner 2,222" in fast[0].seen
    assert "20 seeds take about 52 s, 2 s of it to evaluate policies" in fast[0].seen


def test_the_time_to_evaluate_is_estimated(register):
    register(Cart)
    config = {"agent": TINY, "steps": 4000, "evaluate_every": 1000, "evaluation_episodes": 5}
    hosted = plan(TASK, final_episodes=30, **config)
    spec = Spec("Cart", Vector((Channel("x", "1"),)), Choice("a", "1", (0.0, 1.0)), 1.0, 50)
    assert evaluation_steps(hosted, spec, 4000.0, length=20.0) == (4 * 5 + 30) * 20
    assert evaluation_steps(hosted, spec, 4000.0, length=99.0) == (4 * 5 + 30) * 50
    cut = plan(TASK, final_episodes=30, max_steps=10, **config)
    assert evaluation_steps(cut, spec, 4000.0, length=99.0) == (4 * 5 + 30) * 10
    compiled = plan("CartPole-v1", **config)
    assert evaluation_steps(compiled, spec, 4000.0, length=20.0) == 100 * 20
    drawn = plan("CartPole-v1", randomise={"half_length": (0.4, 0.6)}, **config)
    assert evaluation_steps(drawn, spec, 4000.0, length=20.0) == 2 * 20, "all episodes in one call"


@pytest.mark.parametrize("task", ["CartPole-v1", TASK])
def test_the_speed_of_the_real_thing(task, register):
    register(Cart)
    report = upright.doctor(task, agent=TINY, seeds=2)
    assert report.problems == ()
    assert "2 seeds take about" in report.findings[-1].seen
    assert ("compiled loop" in report.findings[-1].seen) == (task in NAMES)


def test_a_loss_that_does_not_stay_finite_is_a_finding(register):
    register(lambda: Cart(reward=lambda c: 1e20 * c.x[0]))
    found = upright.doctor(TASK, agent=TINY, seeds=1).problems[-1]
    assert (found.check, "loss is not finite" in found.seen) == ("learning", True)


def test_too_little_memory_is_a_finding(monkeypatch):
    def rate(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 88 bytes.")

    monkeypatch.setattr(module, "_rate", rate)
    found = upright.doctor(agent=TINY, seeds=1).problems[-1]
    assert found.seen.startswith("not enough memory")
    assert "replay_size" in found.fix


def test_the_command(call, quick):
    status, output, errors = call("doctor", "CartPole-v1", "--seeds", 2)
    assert (status, errors) == (0, "")
    assert output.splitlines()[-1] == "CartPole-v1: 0 problems, 0 advice, 10 fine"
    command = ("doctor", "PendulumDiscrete-v1", "--steps", 400, "--agent.gamma", 0.9)
    status, output, _ = call(*command)
    assert status == 1
    assert "problem  schedule" in output
    assert "fix: more --steps" in output
    status, output, _ = call(*command, "--json")
    assert status == 1
    report = json.loads(output)
    assert report["task"] == "PendulumDiscrete-v1"
    assert set(report["findings"][0]) == {"check", "severity", "seen", "fix"}


def test_spaces_are_a_finding_and_an_unknown_id_is_bad_input(call, register):
    space = gym.spaces.Dict({"x": gym.spaces.Box(-1, 1)})
    register(lambda: gym.wrappers.TransformObservation(Cart(), lambda x: {"x": x[:1]}, space))
    status, output, _ = call("doctor", TASK)
    assert status == 1
    assert "problem  spaces  its observation is a Dict" in output
    assert "fix: flatten it with gymnasium.wrappers.FlattenObservation" in output
    status, output, errors = call("doctor", "CartPole-v7")
    assert (status, output) == (2, "")
    assert errors.startswith("upright: ")
    with pytest.raises(UprightError, match="both steps and episodes"):
        upright.doctor("CartPole-v1", steps=9, episodes=9)


def test_train_warns_of_what_it_sees_before_it_begins(tmp_path, register):
    register(lambda: Cart(over=lambda c: (True, False)), limit=None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        upright.train(TASK, agent=TINY, seeds=1, steps=600, out=tmp_path / "run")
    texts = [str(w.message) for w in caught if w.category is UprightWarning]
    assert texts == list(Run(tmp_path / "run").info.warnings)
    assert texts[0].startswith("epsilon is still 0.82 after the budget of 600 steps")
    assert "more steps" in texts[0]
    assert texts[1].startswith("no time limit is declared")
