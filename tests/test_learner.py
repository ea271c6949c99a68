"""The learner in a loop of one's own."""

import runpy
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from policy_gradient import PolicyGradient

import upright
from upright import DQN, Channel, Choice, Continuous, Learner, Spec, UprightError, Vector
from upright.tasks.catalogue import make_task

QUICK = DQN(hidden=(16,), batch_size=8, learning_starts=20, epsilon_decay_steps=200)
EXAMPLE = Path(__file__).parent.parent / "examples" / "loop_50hz.py"


def spec_of(scale=1.0):
    return Spec(
        "test",
        Vector((Channel("x", "m", scale=scale),) * 4),
        Choice("force", "N", (0.0, 1.0)),
        0.02,
        None,
    )


def drive(learner, cycles, rng, learn=True):
    """A made-up machine; the actions that were taken."""
    actions = []
    observation = rng.normal(size=4)
    for cycle in range(cycles):
        actions.append(learner.act(observation))
        observation = rng.normal(size=4)
        learner.observe(rng.normal(), observation, cycle % 7 == 6, cycle % 10 == 9)
        if learn:
            learner.learn()
    return actions


def test_it_is_what_the_hosted_runner_does(tmp_path):
    """Episodes of Gymnasium, told to a learner step by step, make the same policy as `train`."""
    run = upright.train(
        "CartPole-v1",
        runner="hosted",
        agent=QUICK,
        seeds="5,",
        steps=600,
        evaluate_every=600,
        out=tmp_path / "run",
    )
    learner = Learner(make_task("CartPole-v1").spec, QUICK, seed=5)
    env = gym.make("CartPole-v1")
    for episode in range(1000):
        reset_seed = int(np.random.SeedSequence([5, episode]).generate_state(1)[0])
        observation, _ = env.reset(seed=reset_seed)
        ended = False
        while not ended and learner.steps < 600:
            action = learner.spec.action.values.index(learner.act(observation))
            observation, reward, terminated, truncated, _ = env.step(action)
            learner.observe(float(reward), observation, terminated, truncated)
            learner.learn()
            ended = terminated or truncated
        if learner.steps == 600:
            break
    last = upright.load_policy(run.path / "seeds" / "05" / "last.safetensors")
    probes = np.random.default_rng(0).normal(size=(50, 4))
    # In other rounding: here the next action is NumPy's, there the compiled program's.
    np.testing.assert_allclose(
        learner.policy().q_values(probes), last.q_values(probes), rtol=1e-3, atol=1e-3
    )


def test_saved_and_loaded_it_goes_on_as_if_nothing_had_been(tmp_path):
    """In the middle of everything: after an action, before it was observed."""
    one = Learner(spec_of(scale=None), QUICK, seed=3)
    drive(one, 60, np.random.default_rng(1))
    drive(one, 5, np.random.default_rng(2), learn=False)
    one.act(np.ones(4))
    one.save(tmp_path / "learner.safetensors")
    other = Learner.load(tmp_path / "learner.safetensors")
    for learner in (one, other):
        learner.observe(0.5, np.zeros(4), False)
    actions = [drive(learner, 300, np.random.default_rng(4)) for learner in (one, other)]
    assert actions[0] == actions[1]
    assert one.steps == other.steps == 366
    assert one.policy().to_bytes() == other.policy().to_bytes()


def test_what_is_measured_scales_the_policy():
    learner = Learner(spec_of(scale=None), QUICK, seed=0)
    rng = np.random.default_rng(0)
    seen = rng.normal(3.0, 2.0, (100, 4)).astype(np.float32)
    for observation, following in pairwise(seen):
        learner.act(observation)
        learner.observe(0.0, following, False)
    learner.learn()
    policy = learner.policy()
    np.testing.assert_allclose(policy.offset, seen[:-1].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(policy.scale, seen[:-1].std(axis=0), rtol=1e-5)


def test_the_loop_may_read_its_sensors_into_one_array():
    learner = Learner(spec_of(), QUICK, seed=0)
    sensors = np.zeros(4, np.float32)
    for cycle in range(10):
        learner.act(sensors)
        sensors[:] = cycle + 1
        learner.observe(0.0, sensors, False)
    rows = np.asarray(learner._memory.stored(0).rows)
    assert np.array_equal(rows[:, 0], np.arange(10))  # observation
    assert np.array_equal(rows[:, 7], np.arange(10) + 1)  # next observation


def test_learning_waits_for_the_warm_up_and_for_data():
    learner = Learner(spec_of(), QUICK, seed=0)
    with pytest.raises(UprightError, match="nothing to learn from yet; call act and observe"):
        learner.learn()
    before = learner.policy().to_bytes()
    rng = np.random.default_rng(0)
    for _ in range(20):
        learner.act(rng.normal(size=4))
        learner.observe(1.0, rng.normal(size=4), False)
        assert learner.learn() is None
    assert learner.policy().weights[0].tobytes() in before
    learner.act(np.zeros(4))
    learner.observe(1.0, np.zeros(4), True)
    learned = learner.learn()
    assert learned is not None
    assert learned.loss > 0


@pytest.mark.parametrize(
    ("reward", "observation", "complaint"),
    [
        (0.0, np.zeros(3), r"observation of shape \(3,\): expected \(4,\)"),
        (0.0, np.zeros((1, 4)), r"observation of shape \(1, 4\): expected \(4,\)"),
        (0.0, [0, np.nan, 0, 0], "observation is not finite"),
        (float("inf"), np.zeros(4), "reward is not finite in single precision: inf"),
    ],
)
def test_what_cannot_be_observed_is_refused_and_not_noted(reward, observation, complaint):
    learner = Learner(spec_of(), QUICK, seed=0)
    learner.act(np.zeros(4))
    with pytest.raises(UprightError, match=complaint):
        learner.observe(reward, observation, False)
    assert learner.steps == 0
    learner.observe(0.0, np.zeros(4), False)
    assert learner.steps == 1


def test_observe_without_an_action_is_refused():
    learner = Learner(spec_of(), QUICK, seed=0)
    with pytest.raises(UprightError, match="observe without an action before it"):
        learner.observe(0.0, np.zeros(4), False)
    with pytest.raises(UprightError, match=r"observation of shape \(2,\)"):
        learner.act(np.zeros(2))


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "learner.safetensors"
    with pytest.raises(UprightError, match=r"learner\.safetensors: cannot be read"):
        Learner.load(path)
    Learner(spec_of(), QUICK, seed=0).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UprightError, match=r"learner\.safetensors: .*damaged"):
        Learner.load(path)
    with pytest.raises(UprightError, match=r"learner\.safetensors: "):
        upright.load_policy(path)


def test_the_example_balances_the_pole(tmp_path):
    """At the end of 200 s of the machine's time, as fast as the computer can."""
    example = runpy.run_path(str(EXAMPLE))
    learner = Learner(example["SPEC"], DQN(), seed=0)
    example["run"](example["Machine"](), learner, 10_000, realtime=False)
    machine, policy = example["Machine"](), learner.policy()
    upright_cycles = 0
    while upright_cycles < 200 and abs(machine.measure()[2]) < 0.21:
        machine.push(policy.act(machine.measure()))
        upright_cycles += 1
    assert upright_cycles == 200


def test_the_example_keeps_its_period_and_goes_on_where_it_stopped(tmp_path):
    command = [sys.executable, EXAMPLE, "--seconds", "2", "--file", tmp_path / "my.safetensors"]
    for expected in ("100 cycles, ", "goes on from"):
        begin = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert time.monotonic() - begin >= 2
        assert expected in done.stdout
    assert Learner.load(tmp_path / "my.safetensors").steps == 200
    assert upright.load_policy(tmp_path / "policy.safetensors").spec.task == "my pendulum"


def test_what_act_gave_may_be_told_to_observe():
    """Also where a bound is another number in single precision."""
    action = Continuous((Channel("u", "N", minimum=-0.1, maximum=0.1),))
    spec = Spec("test", Vector((Channel("x", "m"),)), action, 0.1, None)
    agent = PolicyGradient(environments=1, continuous=True)
    learner = Learner(spec, agent, seed=0)
    learner.act([0.0])
    with pytest.raises(UprightError, match=r"action 'u' is 3 N; it must be between -0\.1 and 0\.1"):
        learner.observe(0.0, [0.0], False, action=[3.0])
    with pytest.raises(UprightError, match="PolicyGradient learns from the actions that it chose"):
        learner.observe(0.0, [0.0], False, action=[0.05])
    learner.observe(0.0, [0.0], False, action=learner.act([0.0]))
    choices = Spec("test", spec.observation, Choice("u", "N", (-0.1, 0.1)), 0.1, None)
    learner = Learner(choices, QUICK, seed=0)
    for _ in range(5):
        learner.observe(0.0, [0.0], False, action=np.array([learner.act([0.0])], np.float32))
    learner.act([0.0])
    with pytest.raises(UprightError, match=r"action is \[0\.2\]; it must be one of"):
        learner.observe(0.0, [0.0], False, action=[0.2])


def test_a_rollout_is_learned_from_once_and_also_when_the_loop_has_gone_on(tmp_path):
    agent = PolicyGradient(environments=1, ticks=4)
    learner, rng = Learner(spec_of(), agent, seed=0), np.random.default_rng(0)
    drive(learner, 4, rng, learn=False)
    assert learner.learn() is not None
    assert learner.learn() is None
    drive(learner, 6, rng, learn=False)  # beyond the end of a rollout
    learner.save(tmp_path / "learner.safetensors")
    metrics = learner.learn()
    assert metrics is not None
    assert learner.learn() is None
