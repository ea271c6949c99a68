"""Greedy episodes of policies, in Gymnasium and compiled."""

import json
from dataclasses import replace
from functools import partial

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import AlwaysOne

import upright
from upright import DQN
from upright.errors import UprightError, UprightWarning
from upright.evaluation import MOST_STEPS, native
from upright.evaluation.conditions import conditions, open_env
from upright.policy import Policy, Provenance
from upright.spec import Channel, Choice, Continuous, Spec, Vector
from upright.tasks.catalogue import make_task


def linear(task, action, weight, bias):
    """A policy of one number, whose outputs are weight * x + bias."""
    return Policy(
        spec=Spec(task, Vector((Channel("x", "m"),)), action, dt=None, episode_steps=None),
        weights=(np.array(weight, np.float32)[:, None],),
        biases=(np.array(bias, np.float32),),
        offset=np.zeros(1, np.float32),
        scale=np.ones(1, np.float32),
        provenance=Provenance("none", seed=0, step=0),
    )


def cartpole(provenance):
    spec, agent = make_task("CartPole-v1").spec, DQN(hidden=(8,))
    policy = agent.to_policy(agent.init(jax.random.key(1), spec), spec)
    return replace(policy, provenance=provenance)


class Line(gym.Env):
    """A point that is moved by the action; its reward is what it was moved by."""

    observation_space = gym.spaces.Box(-100, 100, (1,))

    def __init__(self, action_space, ends_at=np.inf):
        self.action_space = action_space
        self.ends_at = ends_at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = 0.0
        return np.float32([self.x]), {}

    def render(self):
        return np.zeros((4, 4, 3), np.uint8)

    def step(self, action):
        move = float(np.ravel(action)[0])
        self.x += move
        return np.float32([self.x]), move, self.x >= self.ends_at, False, {}


class Rich(Line):
    """Each reward is a number in single precision; their sum is none."""

    def step(self, action):
        observation, _, ended, truncated, info = super().step(action)
        return observation, 3e38, ended, truncated, info


class Falls(gym.Env):
    """For a policy of CartPole; there is no third step."""

    observation_space = gym.spaces.Box(-1, 1, (4,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(4, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 3:
            raise RuntimeError("no floor")
        return np.zeros(4, np.float32), 0.0, False, False, {}


@pytest.fixture
def register(register):
    return partial(register, "Line-v0")


MOVES = Continuous((Channel("move", "m", minimum=-2.0, maximum=2.0),))
STAY_OR_GO = Choice("move", "m", (0.0, 1.0))


def test_an_episode_without_an_end_is_cut_and_that_is_said(register):
    register(lambda: Line(gym.spaces.Discrete(2)))
    policy = linear("Line-v0", STAY_OR_GO, [1, 0], [0, 0])  # stays: of equal outputs the first
    with pytest.warns(UprightWarning, match=r"2 of 2 episodes had no end and were cut off after"):
        evaluation = upright.evaluate(policy, episodes=2)
    assert evaluation.lengths.tolist() == [MOST_STEPS] * 2
    assert evaluation.returns.tolist() == [0.0] * 2
    assert (evaluation.cut, evaluation.summary()["cut_episodes"]) == (2, 2)


def test_an_episode_that_ends_by_itself_is_not_cut(register):
    register(lambda: Line(gym.spaces.Discrete(2), ends_at=3))
    policy = linear("Line-v0", STAY_OR_GO, [0, 0], [0, 1])  # goes
    evaluation = upright.evaluate(policy, episodes=2)
    assert evaluation.lengths.tolist() == [3, 3]
    assert evaluation.cut == 0


@pytest.mark.filterwarnings("ignore:.*epsilon is still")
def test_a_return_beyond_single_precision_is_said(register, tmp_path):
    register(lambda: Rich(gym.spaces.Discrete(2), ends_at=2), limit=4)
    policy = linear("Line-v0", STAY_OR_GO, [0, 0], [0, 1])
    said = r"the return is beyond 3.4e\+38 \(reset seed \d+\); divide all rewards"
    with pytest.raises(UprightError, match=said):
        upright.evaluate(policy, episodes=1)
    settings = {"agent": DQN(hidden=(4,), learning_starts=20, batch_size=4), "steps": 100}
    with pytest.warns(UprightWarning, match=f"while it was evaluated, {said}"):
        run = upright.train("Line-v0", seeds=1, out=tmp_path / "run", **settings)
    assert run.status == "failed"


def test_a_continuous_policy_moves_by_what_it_says(register):
    register(lambda: Line(gym.spaces.Box(-2, 2, (1,)), ends_at=3))
    policy = linear("Line-v0", MOVES, [1], [0.5])
    # It moves by x + 0.5: 0.5, 1.0 and 2.0.
    evaluation = upright.evaluate(policy, episodes=1)
    assert evaluation.returns.tolist() == [3.5]
    assert evaluation.lengths.tolist() == [3]


def test_a_continuous_policy_is_not_for_an_environment_with_a_choice(register):
    register(lambda: Line(gym.spaces.Discrete(1)))
    text = "1 continuous action; Line-v0 has 1 observation and 1 action$"
    with pytest.raises(UprightError, match=text):
        upright.evaluate(linear("Line-v0", MOVES, [1], [0.5]), episodes=1)


def test_a_video_of_an_episode_without_an_end_stops(register, tmp_path):
    register(lambda: Line(gym.spaces.Discrete(2)))
    policy = linear("Line-v0", STAY_OR_GO, [1, 0], [0, 0])
    with pytest.warns(UprightWarning, match="had no end; it was cut off after 30 steps"):
        episode = upright.play(policy, files=[tmp_path / "line.gif"], max_steps=30)
    assert (episode.steps, episode.total) == (30, 0.0)


def test_a_continuous_policy_is_played(register, tmp_path):
    register(lambda: Line(gym.spaces.Box(-2, 2, (1,)), ends_at=3))
    episode = upright.play(linear("Line-v0", MOVES, [1], [0.5]), files=[tmp_path / "line.gif"])
    assert (episode.steps, episode.total) == (3, 3.5)


def test_a_compiled_episode_without_an_end_is_cut_too():
    class Endless(AlwaysOne):
        @property
        def spec(self):
            channels = Vector((Channel("steps", "1"),))
            return Spec("endless", channels, Choice("choice", "1", (0.0, 1.0)), 1.0, None)

    keys = jax.random.split(jax.random.key(0), 2)
    played = native.play(Endless(length=2**30), lambda x: jnp.zeros(len(x), jnp.int32), keys)
    assert [column.tolist() for column in played] == [[MOST_STEPS] * 2] * 2


@pytest.mark.parametrize("randomised", [False, True])
def test_our_environments_together_are_our_environments_one_by_one(randomised):
    """The same start states, physics and returns."""
    policy = cartpole(Provenance(physics={"gravity": 3.7}, randomise={"half_length": (0.3, 0.9)}))
    together = upright.evaluate(policy, episodes=30, seed=4, randomised=randomised)
    env = open_env(policy, conditions(policy, None, randomised))
    returns = []
    for seed in together.reset_seeds:
        observation, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action = policy.choose(observation)
            observation, reward, terminated, truncated, _ = env.step(action)
            total, over = total + reward, terminated or truncated
        returns.append(total)
    assert together.returns.tolist() == returns
    assert together.lengths.tolist() == returns
    assert len(set(returns)) > 1


def test_a_policy_is_judged_with_other_physics_and_that_is_said():
    policy = cartpole(Provenance(physics={"gravity": 3.7, "force": 5.0}))
    same = upright.evaluate(policy, episodes=5)
    assert same.changes == ()
    other = upright.evaluate(policy, episodes=5, physics={"force": 20})
    assert other.changes == ("trained with force 5, evaluated with 20",)
    trained = replace(policy, provenance=Provenance(physics={"gravity": 3.7, "force": 20.0}))
    assert other.returns.tolist() == upright.evaluate(trained, episodes=5).returns.tolist()
    with pytest.raises(UprightError, match="no parameter 'gravty'; did you mean gravity"):
        upright.evaluate(policy, physics={"gravty": 1.0})


@pytest.mark.filterwarnings("ignore:.*is out of date", "ignore:.*without names of both")
def test_a_policy_is_judged_on_another_version_of_its_task():
    policy = cartpole(Provenance(physics={"gravity": 3.7}))
    evaluation = upright.evaluate(policy, task="CartPole-v0", episodes=5)
    assert evaluation.changes == (
        "trained with CartPole-v1 (gravity 3.7), evaluated with CartPole-v0",
    )
    # The same forces on the same plant, whose start states are ours.
    returns = [
        upright.evaluate(policy, task=task, episodes=5).returns.tolist()
        for task in ("upright/CartPole-v1", "CartPoleContinuous-v0")
    ]
    assert returns[0] == returns[1]
    ours = upright.evaluate(policy, task="upright/CartPole-v1", episodes=1, physics={"force": 20})
    assert "evaluated with force 20 instead of 10" in ours.changes


def test_observations_without_names_are_taken_in_their_order_and_that_is_said(register):
    register(lambda: gym.wrappers.TransformObservation(gym.make("CartPole-v1"), np.flip, None))
    policy = cartpole(Provenance())
    with pytest.warns(UprightWarning, match="taken for those of CartPole-v1, in the same order"):
        upright.evaluate(policy, task="Line-v0", episodes=1)


@pytest.mark.filterwarnings("ignore:.*without names of both")
@pytest.mark.parametrize(
    ("play", "options"), [(upright.evaluate, {}), (upright.play, {"files": "fall.gif"})]
)
def test_where_an_episode_failed_is_said(register, tmp_path, monkeypatch, play, options):
    monkeypatch.chdir(tmp_path)
    register(Falls)
    policy = cartpole(Provenance())
    place = r"step raised RuntimeError: no floor \(reset seed \d+, step 3\)$"
    with pytest.raises(UprightError, match=place):
        play(policy, task="Line-v0", **options)


def test_a_task_whose_spec_does_not_fit_is_named_beside_the_policys(register):
    policy = cartpole(Provenance())
    with pytest.raises(UprightError, match=r"for CartPole-v1 and has 4 .*; Acrobot-v1 has 6 obs"):
        upright.evaluate(policy, task="Acrobot-v1")
    mine = replace(policy, spec=replace(policy.spec, task="Mine-v0"))
    channels = (Channel("height", "m"), *mine.spec.observation.channels[1:])
    mine = replace(mine, spec=replace(mine.spec, observation=Vector(channels)))
    with pytest.raises(UprightError, match=r"'height' \[m\] where CartPole-v1 has '.*' \[m\]"):
        upright.evaluate(mine, task="CartPole-v1")


def test_arguments_of_an_environment_are_kept_and_overridden(monkeypatch):
    def make(ends_at=9, kind="line", **_):
        assert kind == "line"
        return Line(gym.spaces.Discrete(2), ends_at)

    monkeypatch.setitem(gym.registry, "Line-v0", gym.envs.registration.EnvSpec("Line-v0", make))
    policy = linear("Line-v0", STAY_OR_GO, [0, 0], [0, 1])
    policy = replace(policy, provenance=Provenance(env={"ends_at": 4}))
    assert Policy.from_bytes(policy.to_bytes()).provenance.env == {"ends_at": 4}
    assert upright.evaluate(policy, episodes=1).lengths.tolist() == [4]
    evaluation = upright.evaluate(policy, episodes=1, env={"ends_at": 6})
    assert evaluation.lengths.tolist() == [6]
    assert evaluation.changes == ("trained with env.ends_at 4, evaluated with 6",)
    # Text may name a file or a module, and the policy's file may be a stranger's.
    policy = replace(policy, provenance=Provenance(env={"kind": "line"}))
    with pytest.raises(UprightError, match=r"text is passed on .* only where you give it again"):
        upright.evaluate(policy, episodes=1)
    assert upright.evaluate(policy, episodes=1, env={"kind": "line"}).changes == ()


def test_what_is_changed_on_the_command_line_is_printed(tmp_path, call):
    path = tmp_path / "policy.safetensors"
    cartpole(Provenance(randomise={"half_length": (0.3, 0.9), "gravity": (9.0, 10.0)})).save(path)
    words = ["evaluate", path, "--episodes", 3, "--physics.gravity", 3.7]
    status, output, _ = call(*words)
    assert status == 0
    assert output.splitlines()[0] == "trained with gravity 9 to 10, evaluated with 3.7"
    _, output, _ = call(*words, "--json")
    result = json.loads(output)[str(path)]
    assert result["changes"] == ["trained with gravity 9 to 10, evaluated with 3.7"]
    assert result["randomised"]["episodes"] == 3
    status, output, _ = call("play", path, "--physics.gravity", 3.7, "--gif", tmp_path / "a.gif")
    assert (status, output.splitlines()[1]) == (0, result["changes"][0])
    status, _, errors = call("evaluate", path, "--env.gravty", 3)
    assert (status, len(errors.splitlines())) == (2, 1)
    assert "unexpected keyword argument 'gravty'" in errors
