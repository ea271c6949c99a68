"""What every agent promises, held for two that differ in kind; and what runners know of them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_gradient import PolicyGradient

import upright
from upright import DQN, Channel, Choice, Continuous, Spec, UprightError, Vector
from upright.agents import agent_from_dict, agent_to_dict
from upright.bridge.flat import Flat
from upright.memory.transition import Transition
from upright.runners.compiled import Compiled
from upright.runners.compiled_seeds import CompiledRunner
from upright.runners.hosted import HostedRunner
from upright.runners.randomness import transition_like
from upright.runners.runner import Segment
from upright.tasks.task import TimeStep

SMALL = {"hidden": (16,), "batch_size": 8, "replay_size": 120, "learning_starts": 24}
AGENTS = {
    "DQN": DQN(**SMALL, epsilon_decay_steps=100),
    "DQN, 3 environments": DQN(
        **SMALL, environments=3, target_update="episodes", target_interval=4, gradient_steps=3
    ),
    "policy gradient": PolicyGradient(),
    "policy gradient, continuous": PolicyGradient(environments=2, continuous=True),
}
STEPS = 192  # a multiple of each number of environments


def spec_of(agent):
    channels = (Channel("position", "m", scale=None), Channel("time", "1", scale=8.0))
    action = Choice("push", "m", (-1.0, 0.5))
    if getattr(agent, "continuous", False):
        action = Continuous((Channel("push", "m", minimum=-1.0, maximum=0.5),))
    return Spec("Line", Vector(channels), action, 0.1, 8)


class State(NamedTuple):
    x: jnp.ndarray  # position [m], steps since the reset


@dataclass(frozen=True)
class Line:
    """A point is pushed along a line; in whole numbers of 1/64 m, so that nothing is rounded.

    It always begins at the same place. Beyond 2 m it terminates, after 8 steps it is cut off.
    """

    spec: Spec

    def reset(self, key):
        del key
        return State(jnp.array([0.25, 0.0]))

    def observe(self, state):
        return state.x

    def step(self, state, action):
        x, reward, terminated, truncated = line_step(jnp, state.x, action)
        return State(x), TimeStep(x, reward, terminated, truncated)


def line_step(xp, x, action):
    position = x[0] + xp.round(action[0] * 64) / 64
    following = xp.stack([position, x[1] + 1])
    return following, 1 - xp.abs(position) / 2, xp.abs(position) > 2, x[1] >= 7


class LineEnv(gym.Env):
    """The same in Gymnasium."""

    def __init__(self, spec):
        self.spec_of_line = spec
        low, high = np.full(2, -100, np.float32), np.full(2, 100, np.float32)
        self.observation_space = gym.spaces.Box(low, high)
        self.action_space = gym.spaces.Discrete(2)
        if isinstance(spec.action, Continuous):
            self.action_space = gym.spaces.Box(-1.0, 0.5, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = np.array([0.25, 0.0], np.float32)
        return self.x, {}

    def step(self, action):
        physical = np.asarray(self.spec_of_line.action.physical(np.asarray(action)))
        self.x, reward, terminated, truncated = line_step(np, self.x, physical)
        return self.x, float(reward), bool(terminated), bool(truncated), {}


def runner_of(kind, agent):
    spec = spec_of(agent)
    if kind == "compiled":
        return CompiledRunner(Compiled(Line(spec), agent, STEPS, 5), no_judge)
    given = range(2) if isinstance(spec.action, Choice) else None
    make = lambda seed: Flat(LineEnv(spec), spec.action, given)  # noqa: E731
    return HostedRunner(spec, agent, STEPS, make, no_judge, (1, 2))


def no_judge(policy, episodes, observer):
    raise AssertionError("nobody is judged here")


def go(groups, segment):
    return {
        result.seed: result
        for group in groups
        for result in group.run(dict.fromkeys(group.seeds, segment))
    }


def run(kind, agent, seeds, *segments, states=None):
    """The last results, by seed."""
    groups = runner_of(kind, agent).start(seeds, states or {})
    results = {}
    try:
        for segment in segments:
            results = go(groups, segment)
    finally:
        for group in groups:
            group.close()
    return results


def assert_same(tree, other, rounding=0.0):
    """Bit for bit, or to a relative rounding of the numbers."""
    for (name, a), b in zip(jax.tree.leaves_with_path(tree), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(
            a, b, rtol=rounding, atol=rounding / 10, err_msg=jax.tree_util.keystr(name)
        )


def rounding_of(agent):
    """None for DQN. Another agent may be compiled otherwise by the two runners; then its last
    digits differ.
    """
    return 0.0 if isinstance(agent, DQN) else 1e-4


WHOLE = Segment(STEPS, save=True)
both = pytest.mark.parametrize("kind", ["compiled", "hosted"])
every = pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)


@every
def test_the_same_transitions_make_the_same_agent_in_both_runners(agent):
    compiled, hosted = (run(kind, agent, [5], WHOLE)[5] for kind in ("compiled", "hosted"))
    assert compiled.log.ended.any()
    assert 0 < compiled.log.terminated.sum() < compiled.log.ended.sum(), "both ends are there"
    assert compiled.log.learned.any()
    rounding = rounding_of(agent)
    assert_same(compiled.state.agent, hosted.state.agent, rounding)
    assert_same(compiled.state.memory, hosted.state.memory, rounding)
    assert_same(compiled.log, hosted.log, rounding)


@both
@every
def test_interrupted_is_never_interrupted(kind, agent):
    expected = run(kind, agent, [2, 9], WHOLE)
    part = Segment(24 * agent.environments, save=True)
    results = run(kind, agent, [2, 9], part)
    while results[2].state.steps < STEPS:
        states = {seed: result.state for seed, result in results.items()}
        left = STEPS - int(states[2].steps)
        results = run(kind, agent, [2, 9], Segment(min(left, part.steps), save=True), states=states)
    for seed in (2, 9):
        assert_same(results[seed].state, expected[seed].state)


@both
@every
def test_a_seed_alone_is_the_seed_in_company(kind, agent):
    alone = run(kind, agent, [3], WHOLE)[3]
    company = run(kind, agent, [1, 2, 3, 4, 5], WHOLE)
    assert_same(company[3].state, alone.state)
    assert_same(company[3].log, alone.log)
    assert len({leaf.tobytes() for r in company.values() for leaf in _first(r)}) == 5


def _first(result):
    return jax.tree.leaves(result.state.agent.params)[:1]


@both
@every
def test_metrics_and_columns_agree(kind, agent):
    log = run(kind, agent, [0], WHOLE)[0].log
    assert log.metrics.shape == (STEPS // agent.environments, len(agent.Metrics._fields))
    learned = log.learned > 0
    assert (log.metrics[learned][:, 0] != 0).all()
    assert (log.metrics[~learned] == 0).all()
    memory = agent.memory(transition_like(agent, spec_of(agent)))
    ticks = range(1, len(learned) + 1)
    assert [bool(memory.due(t * agent.environments)) for t in ticks] == learned.tolist()
    assert all(isinstance(value, float) for value in agent.schedules(100).values())


@both
@every
def test_a_policy_says_what_the_agent_says(kind, agent):
    """In NumPy, to the rounding of single precision; its greedy action is the agent's."""
    result = run(kind, agent, [4], Segment(STEPS, evaluate=True, save=True))[4]
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    expected = np.asarray(agent.outputs(jax.tree.map(jnp.array, result.state.agent), jnp.array(x)))
    np.testing.assert_allclose(result.policy.outputs(x), expected, rtol=1e-4, atol=1e-5)
    if isinstance(spec_of(agent).action, Choice):
        assert np.array_equal(result.policy.choose(x), agent.greedy(expected))
    assert np.isfinite(result.returns).all()


@every
def test_it_acts_the_same_in_numpy(agent):
    """In a loop of one's own there is no time for a compiled call."""
    noise = agent.draw(jax.random.key(1), spec_of(agent))
    outputs = jax.random.normal(jax.random.key(2), (agent.environments, spec_of(agent).action_size))
    jax_action, jax_extras = agent.select(outputs, noise, jnp.int32(50))
    arrays = jax.tree.map(np.asarray, (outputs, noise))
    action, extras = agent.select(*arrays, np.float32(50))
    assert isinstance(action, np.ndarray)
    np.testing.assert_allclose(action, jax_action, rtol=1e-6)
    np.testing.assert_allclose(
        *(np.asarray(jax.tree.leaves(e)) for e in (extras, jax_extras)), rtol=1e-5, atol=1e-6
    )


@every
def test_a_memory_on_the_host_is_the_memory_in_the_program(agent, rng):
    like = transition_like(agent, spec_of(agent))
    memory = agent.memory(like)
    host, content = memory.on_host(2), memory.init()
    for tick in range(60):
        transition = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), like)
        row = Transition_row(memory, transition)
        host.add(np.stack([row, row]))
        content = memory.add(content, jax.tree.map(jnp.asarray, transition))
        drawn = memory.draw(jax.random.key(tick))
        sampled = host.sample(jax.tree.map(lambda x: np.stack([x, x])[:, None], drawn), 0)
        expected = memory.sample(content, drawn)
        for seed in (0, 1):
            assert np.array_equal(sampled[seed], expected)
            assert_same(host.stored(seed), memory.stored(content))
    assert_same(memory.stored(memory.restored(memory.stored(content))), memory.stored(content))


def Transition_row(memory, transition):  # noqa: N802
    return memory.row.pack(Transition(*transition))


@both
@every
def test_a_budget_of_episodes_ends_within_a_tick(kind, agent):
    result = run(kind, agent, [6], Segment(STEPS, episodes=5))[6]
    ended = result.log.ended.sum(axis=1)
    assert ended.sum() >= 5
    assert ended[:-1].sum() < 5


@pytest.mark.parametrize("agent", [DQN(**SMALL), DQN()], ids=["changed", "default"])
def test_settings_survive_a_file_and_later_settings(agent):
    values = agent_to_dict(agent)
    values["hidden"] = list(values["hidden"])  # as JSON has it
    assert agent_from_dict(values) == agent
    del values["double"]  # a file that was written before there was such a setting
    assert agent_from_dict(values) == agent


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"name": "SARSA"}, "unknown agent 'SARSA'; known: DQN"),
        ({}, "unknown agent None"),
        ({"name": "DQN", "gama": 1.0}, "DQN has no setting 'gama'"),
        ({"name": "DQN", "gamma": 2.0}, "gamma is 2.0; it must be at least 0 and at most 1"),
    ],
)
def test_settings_without_sense_are_one_line(values, complaint):
    with pytest.raises(UprightError, match=complaint):
        agent_from_dict(values)


def test_an_agent_for_choices_refuses_a_continuous_action():
    with pytest.raises(UprightError, match="DQN chooses among"):
        DQN().fits(spec_of(PolicyGradient(continuous=True)))


PACKAGE = Path(upright.__file__).parent


@pytest.mark.parametrize(
    "path",
    [*PACKAGE.glob("runners/*.py"), *PACKAGE.glob("training/*.py")],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_runners_and_training_know_no_algorithm(path):
    text = path.read_text()
    assert not re.findall("dqn|epsilon|replay|q_", text, re.IGNORECASE)
    imported = re.findall(r"upright\.agents(?:\.(\w+))?", text)
    assert set(imported) <= {"", "agent", "presets"}


@pytest.mark.parametrize("folder", ["runners", "training"])
def test_no_file_is_long(folder):
    for path in (PACKAGE / folder).glob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path
