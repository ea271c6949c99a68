"""Tasks that say which actions are allowed: acting, targets, evaluation, the learner."""

from contextlib import closing
from dataclasses import replace
from functools import partial

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_gradient import PolicyGradient
from walks import files, states

import upright
from upright import (
    DQN,
    Channel,
    Choice,
    Continuous,
    Learner,
    Spec,
    UprightError,
    Vector,
)
from upright.agents.dqn import Noise
from upright.bridge.flat import make_env
from upright.bridge.values import EnvironmentFailedError
from upright.errors import UprightWarning
from upright.memory.transition import Transition
from upright.networks.mlp import MLP
from upright.policy import Policy, load_policy

QUICK = DQN(
    hidden=(8,),
    batch_size=8,
    replay_size=400,
    learning_starts=40,
    gradient_steps=1,
    epsilon_decay_steps=200,
    environments=2,
)
BUDGET = {"steps": 300, "evaluate_every": 100, "evaluation_episodes": 1, "checkpoint_every": 100}
TASK = "Corridor-v0"
LEFT = np.array([2, 1, 0], np.float32)  # before staying, before right


class Corridor(gym.Env):
    """Left, stay or right among five places; reward is the place, the last one ends it.

    There is no way left at the first one, and none may stay at the middle. Actions count from 1.
    """

    observation_space = gym.spaces.Box(0, 4, (1,))
    action_space = gym.spaces.Discrete(3, start=1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.ended = int(self.np_random.integers(3)), False
        return np.float32([self.place]), self.info()

    def allowed(self):
        if self.ended:  # as many games say when they are over
            return np.zeros(3, np.int8)
        return np.array([self.place > 0, self.place != 2, True], np.int8)

    def info(self):
        return {"action_mask": self.allowed()}

    def step(self, action):
        if not self.allowed()[action - 1]:
            raise ValueError(f"action {action} at {self.place}")
        self.place += int(action) - 2
        self.ended = self.place == 4
        return np.float32([self.place]), float(self.place), self.ended, False, self.info()


class ByMethod(Corridor):
    def info(self):
        return {}

    def action_masks(self):
        return self.allowed().astype(bool)


@pytest.fixture
def register(register):
    return partial(register, TASK, limit=12)


def train(out, **changes):
    arguments = {"agent": QUICK, "seeds": 2, "final_episodes": 5, **BUDGET, **changes}
    return upright.train(TASK, out=out, **arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run, the same in two parts, and what the first holds of seed 0."""
    gym.register(TASK, lambda **_: Corridor(), max_episode_steps=12)
    try:
        folder = tmp_path_factory.mktemp("masks")
        whole, short = train(folder / "whole"), train(folder / "short", steps=150)
        return whole, upright.resume(short, steps=300), states(whole)[0]
    finally:
        gym.registry.pop(TASK)


def go_right(steps):
    with closing(make_env(TASK)) as env:
        env.reset(seed=0)
        for _ in range(steps):
            env.step(2)


def linear_q(slopes):
    """A network without hidden layer: Q(x, a) = slope_a x."""
    network = MLP((1, len(slopes)), jax.random.key(0))
    values = jnp.array([slopes]), jnp.zeros(len(slopes))
    return jax.tree.unflatten(jax.tree.structure(network), values)


def spec_of(count=2, masked=True):
    values = tuple(map(float, range(count)))
    return Spec("t", Vector((Channel("x", "m"),)), Choice("u", "N", values), 0.1, 9, masked=masked)


def test_targets_are_of_the_actions_that_are_allowed_next():
    x, zeros = jnp.array([[2.0], [2.0], [2.0]]), jnp.zeros(3)
    mask = jnp.array([[True, False], [False, True], [True, True]])
    batch = Transition(x, zeros, zeros + 1, zeros + 1, x, zeros > 0, (), mask)
    # At s' = 2 the target network says Q = (4, 6), the online one (2, -2).
    for double, values in ((False, (4.0, 6.0, 6.0)), (True, (4.0, 6.0, 4.0))):
        agent = DQN(hidden=(), gamma=0.9, double=double)
        state = agent.init(jax.random.key(0), spec_of())
        state = state._replace(params=linear_q((1.0, -1.0)), target_params=linear_q((2.0, 3.0)))
        np.testing.assert_allclose(agent.targets(state, batch), 1 + 0.9 * np.array(values))


def test_all_allowed_actions_are_explored_equally_often_and_no_others():
    count = 3 * 2**8
    mask = np.zeros((count, 5), bool)
    mask[:, [1, 2, 4]] = True
    share = np.arange(count, dtype=np.float32) / count
    q = np.zeros((count, 5), np.float32)
    noise = Noise(np.zeros(count, np.float32), share)
    agent = DQN(epsilon_start=1.0)
    drawn = [
        np.asarray(agent.select(*(jax.tree.map(kind, (q, noise, np.float32(0), mask))))[0])
        for kind in (np.asarray, jnp.asarray)
    ]
    assert np.array_equal(*drawn)
    assert np.bincount(drawn[0], minlength=5).tolist() == [0, 256, 256, 0, 256]
    last = noise._replace(action=np.full(count, 1 - 2**-23, np.float32))  # the largest there is
    assert set(agent.select(q, last, np.float32(0), mask)[0].tolist()) == {4}


def test_the_greedy_action_is_an_allowed_one():
    q, mask = np.float32([[3, 1, 2], [3, 1, 2]]), np.array([[0, 1, 1], [0, 1, 0]], bool)
    noise = Noise(np.ones(2, np.float32), np.zeros(2, np.float32))
    agent = DQN(epsilon_start=0.0, epsilon_end=0.0)
    assert agent.select(q, noise, np.float32(0), mask)[0].tolist() == [2, 1]
    assert agent.greedy(q, mask).tolist() == [2, 1]


def test_a_run_keeps_to_the_masks_and_remembers_them(trained):
    run, _, state = trained
    assert run.status == "finished", [result.error for result in run.results]
    assert run.best().spec.masked
    rows = np.asarray(state.memory.rows)  # observation, action, ..., ended, mask
    place, action, discount, following = rows[:, 0], rows[:, 1].astype(int), rows[:, 3], rows[:, 4]
    allowed = np.stack([place > 0, place != 2, place < 4], axis=1)
    assert allowed[np.arange(len(rows)), action].all()
    expected = np.stack([following > 0, following != 2, following < 4], axis=1)
    expected[discount == 0] = True  # nothing is chosen there
    assert np.array_equal(rows[:, -3:].astype(bool), expected)
    assert (discount == 0).any()
    assert not expected.all()


def test_a_run_that_goes_on_is_the_same_to_the_byte(trained):
    whole, resumed, _ = trained
    assert files(resumed) == files(whole)


def test_an_environment_that_is_elsewhere_after_a_resume_begins_a_new_episode(tmp_path, register):
    class Moved(Corridor):
        start = 0

        def reset(self, **options):
            super().reset(**options)
            self.place = self.start
            return np.float32([self.place]), self.info()

    register(Moved)
    run = train(tmp_path / "run", steps=150)
    Moved.start = 2  # where none may stay, as all may at the first place
    with pytest.warns(UprightWarning, match="a new one began"):
        run = upright.resume(run, steps=300)
    assert run.status == "finished", [result.error for result in run.results]


def test_a_mask_by_a_method_is_the_same_as_one_in_the_info(tmp_path, register, trained):
    register(ByMethod)
    run = train(tmp_path / "run")
    assert files(run) == files(trained[0])


def test_a_single_environment_and_the_commands_keep_to_the_masks(tmp_path, register, call):
    register(Corridor)
    agent = replace(QUICK, environments=1)
    run = train(tmp_path / "run", seeds=1, environments="one", agent=agent)
    assert run.status == "finished", run.results[0].error
    # It would go left wherever it is, and on from the first place for ever.
    left = replace(run.best(), weights=(np.zeros((3, 1), np.float32),), biases=(LEFT,))
    left.save(tmp_path / "left.safetensors")
    for command in (("evaluate", "--episodes", 20), ("play", "--gif", tmp_path / "a.gif")):
        status, _, error = call(command[0], tmp_path / "left.safetensors", *command[1:])
        assert status == 0, error
    assert (tmp_path / "a.gif").exists()
    assert "allowed" in call("show", tmp_path / "left.safetensors")[1]


def test_a_policy_needs_the_mask_and_keeps_to_it(trained, tmp_path):
    policy = trained[0].best()
    policy.save(tmp_path / "policy.safetensors")
    policy = load_policy(tmp_path / "policy.safetensors")
    for index in range(3):
        mask = np.arange(3) == index
        assert policy.choose([1.0], mask) == index
        assert policy.act([1.0], action_mask=mask.astype(int)) == index
    q = policy.q_values([[1.0], [3.0]])
    best = q.argmax(axis=1)
    mask = np.ones((2, 3))
    assert policy.choose([[1.0], [3.0]], mask).tolist() == best.tolist()
    mask[[0, 1], best] = 0
    assert (policy.choose([[1.0], [3.0]], mask) != best).all()
    with pytest.raises(UprightError, match=r"masks its actions: give action_mask, .* shape \(3,\)"):
        policy.choose([1.0])


WRONG = {
    "has shape": [1, 0],
    "allows no action": [0, 0, 0],
    "must be 0 or 1": [0.5, 1, 1],
    r"is \[\[1\], \[1, 0\]\]; it must be an array of 0 and 1": [[1], [1, 0]],
    "is 'all'; it must be an array": "all",
    "entries must be 0 or 1": [np.nan, 1, 1],
}


@pytest.mark.parametrize("said", WRONG)
def test_a_wrong_mask_is_said(said, trained, register):
    with pytest.raises(UprightError, match=f"action_mask .*{said}"):
        trained[0].best().choose([1.0], WRONG[said])

    class Wrong(Corridor):
        def info(self):
            return {"action_mask": self.allowed() if self.place < 3 else WRONG[said]}

    register(Wrong)
    with pytest.raises(EnvironmentFailedError, match=f"action_mask .*{said}") as one:
        go_right(4)
    assert (one.value.call, "\n" in str(one.value)) == ("step", False)


def test_masks_that_come_late_or_fail_are_said(register):
    class Late(Corridor):
        def reset(self, **options):
            return super().reset(**options)[0], {}

    class Never(Corridor):
        def step(self, action):
            return *super().step(action)[:4], {}

    class Fails(ByMethod):
        def action_masks(self):
            raise OSError("no connection")

    for make, said in (
        (Late, "step gives an action_mask, and the first reset gave none"),
        (Never, "step gives no action_mask, and the first reset gave one"),
        (Fails, "reset raised OSError: no connection"),
    ):
        register(make)
        with pytest.raises(EnvironmentFailedError, match=said):
            go_right(1)
    register(Never)
    report = upright.doctor(TASK, agent=QUICK)
    assert [finding.check for finding in report.problems] == ["environment"]
    assert "give it in reset and in each step" in report.problems[0].seen


def test_a_mask_of_other_actions_than_those_outside_is_refused(register):
    def swapped(action):
        return 4 - action

    class Fitting(gym.Wrapper):
        def reset(self, **options):
            observation, info = self.env.reset(**options)
            return observation, {"action_mask": info["action_mask"][::-1]}

        def step(self, action):
            *rest, info = self.env.step(action)
            return *rest, {"action_mask": info["action_mask"][::-1]}

    space = Corridor.action_space
    for make in (Corridor, ByMethod):
        register(lambda make=make: gym.wrappers.TransformAction(make(), swapped, space))
        with pytest.raises(EnvironmentFailedError, match="inside, and TransformAction changes"):
            go_right(0)
        report = upright.doctor(TASK, agent=QUICK)
        assert "TransformAction" in report.problems[0].seen
    register(lambda: Fitting(gym.wrappers.TransformAction(Corridor(), swapped, space)))
    with closing(make_env(TASK)) as env:
        env.reset(seed=0)
        assert env.action_mask.tolist() == env.unwrapped.allowed()[::-1].tolist()
    register(lambda: gym.wrappers.FrameStackObservation(ByMethod(), 2))
    go_right(2)


def test_the_doctor_plays_what_is_allowed_and_says_so(register, quick):
    for make, source in ((Corridor, r"info['action_mask']"), (ByMethod, "method action_masks()")):
        register(make)
        report = upright.doctor(TASK, agent=QUICK)
        assert not report.problems
        (found,) = (finding for finding in report.findings if finding.check == "mask")
        assert source in found.seen
    report = upright.doctor(TASK, agent=PolicyGradient(environments=1))
    assert [finding.check for finding in report.problems] == ["agent"]


def test_an_agent_without_masks_refuses_them(tmp_path, register):
    register(Corridor)
    with pytest.raises(UprightError, match="learns without masks"):
        train(tmp_path / "run", agent=PolicyGradient(environments=2))
    assert not (tmp_path / "run").exists()


def test_the_spec_says_masks_only_where_there_are_some():
    with_masks = spec_of()
    without = replace(with_masks, masked=False)
    assert Spec.from_dict(with_masks.to_dict()) == with_masks
    assert Spec.from_dict(without.to_dict()) == without
    assert set(with_masks.to_dict()) - set(without.to_dict()) == {"masked"}
    continuous = Continuous((Channel("u", "N", minimum=0.0, maximum=1.0),))
    with pytest.raises(UprightError, match="only the values of a Choice can be masked"):
        replace(with_masks, action=continuous)
    with pytest.raises(UprightError, match="must be True or False"):
        replace(with_masks, masked=1)
    with pytest.raises(TypeError):
        Spec.from_dict(with_masks.to_dict() | {"masked": 1})


def test_a_policy_that_learned_with_masks_is_tried_without(trained, register):
    """There all is allowed; and a policy that learned without keeps to those of another task."""
    run, _, _ = trained

    class Free(Corridor):
        def reset(self, **options):
            return super().reset(**options)[0], {}

        def step(self, action):
            self.place = min(max(self.place + int(action) - 2, 0), 4)
            return np.float32([self.place]), 1.0, self.place == 4, False, {}

    register(Free)
    upright.evaluate(run.best(), task=TASK, episodes=3)
    register(Corridor)
    best = run.best()
    unmasked = Policy(
        replace(best.spec, masked=False), best.weights, best.biases, best.offset, best.scale
    )
    with_masks, without = (
        upright.evaluate(policy, task=TASK, episodes=3) for policy in (best, unmasked)
    )
    assert np.array_equal(with_masks.returns, without.returns)


def test_a_learner_does_what_training_does(tmp_path, register):
    register(Corridor)
    agent = replace(QUICK, environments=1)
    run = train(tmp_path / "run", agent=agent, seeds="5,", evaluate_every=300)
    learner, env = Learner(run.best().spec, agent, seed=5), make_env(TASK)
    steps = episode = 0
    while steps < 300:
        reset_seed = np.random.SeedSequence([5, episode, 0]).generate_state(1)[0]
        observation, _ = env.reset(seed=int(reset_seed))
        episode, over = episode + 1, False
        while not over and steps < 300:
            index = int(learner.act(observation, env.action_mask))
            observation, reward, terminated, truncated, _ = env.step(index)
            mask = None if terminated else env.action_mask
            learner.observe(reward, observation, terminated, truncated, next_action_mask=mask)
            learner.learn()
            steps, over = steps + 1, terminated or truncated
            if steps == 150:
                learner.save(tmp_path / "learner.safetensors")
                learner = Learner.load(tmp_path / "learner.safetensors")
    last = load_policy(run.path / "seeds" / "05" / "last.safetensors")
    places = np.arange(5.0)[:, None]
    # In other rounding: here the next action is NumPy's, there the compiled program's.
    np.testing.assert_allclose(
        learner.policy().q_values(places), last.q_values(places), rtol=1e-3, atol=1e-3
    )


def test_a_learner_says_what_is_wrong_with_a_mask():
    agent = DQN(hidden=())
    learner = Learner(spec_of(), agent)
    with pytest.raises(UprightError, match="masked=True: action_mask; give it"):
        learner.act([0.0])
    with pytest.raises(UprightError, match="action_mask allows no action"):
        learner.act([0.0], [0, 0])
    assert {learner.act([0.0], [0, 1]) for _ in range(20)} == {1.0}
    with pytest.raises(UprightError, match="next_action_mask; give it"):
        learner.observe(0.0, [0.0], False)
    with pytest.raises(UprightError, match="next_action_mask has shape"):
        learner.observe(0.0, [0.0], False, next_action_mask=[1])
    assert learner.steps == 0
    learner.observe(0.0, [0.0], terminated=True)
    assert learner.steps == 1
    without = Learner(spec_of(masked=False), agent)
    with pytest.raises(UprightError, match=r"masked=False: action_mask; .* masked=True"):
        without.act([0.0], [1, 1])
