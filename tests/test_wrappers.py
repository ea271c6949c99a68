"""What an environment tells of itself, seen through the wrappers around it."""

import warnings
from dataclasses import replace
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers

import upright
from upright import DQN, UprightError
from upright.bridge.flat import make_env
from upright.bridge.spec import read_spec
from upright.errors import UprightWarning
from upright.policy import load_policy
from upright.runs import Run
from upright.spec import Choice
from upright.tasks.catalogue import make_task

TASK = "Wrapped-v0"
TINY = DQN(hidden=(8,), gradient_steps=1, learning_starts=40, epsilon_decay_steps=60)
BRIEF = {"agent": TINY, "seeds": 1, "steps": 60, "evaluation_episodes": 1}
FORCE = "force", "N", (-10.0, 10.0)
PLAIN = "action", "1", (0.0, 1.0)


def ours():
    return gym.make("upright/CartPole-v1")


@pytest.fixture
def registered(register):
    return partial(register, TASK)


@pytest.fixture
def seen(registered):
    """The spec of what `wrap` makes of our own cart-pole."""

    def seen(wrap, make=ours):
        env = make_env(registered(lambda: wrap(make())))
        try:
            return read_spec(env, TASK)
        finally:
            env.close()

    return seen


def action_of(spec):
    assert isinstance(spec.action, Choice)
    return spec.action.name, spec.action.unit, spec.action.values


def names_of(spec):
    return [channel.name for channel in spec.observation.channels]


class Step(gym.Wrapper):
    """Somebody's own wrapper; `inside` and `outside` say what becomes of a step."""

    def __init__(self, env, inside=lambda action: action, outside=lambda step: step):
        super().__init__(env)
        self.inside, self.outside = inside, outside

    def step(self, action):
        return self.outside(self.env.step(self.inside(action)))


class Skip(gym.Wrapper):
    """Every other step alone is seen."""

    def step(self, action):
        self.env.step(action)
        return self.env.step(action)


def in_place(step):
    observation = step[0]
    observation *= 2
    return step


def reward_of(change):
    return lambda step: (step[0], change(step[1]), *step[2:])


@pytest.mark.parametrize(
    "wrap",
    [
        wrappers.RecordEpisodeStatistics,
        wrappers.OrderEnforcing,
        wrappers.FlattenObservation,
        lambda env: wrappers.ReshapeObservation(env, (2, 2)),
        Step,  # as one that writes a log
        lambda env: Step(wrappers.RecordEpisodeStatistics(Step(env))),
    ],
)
def test_wrappers_that_leave_all_alone_keep_the_spec(seen, wrap):
    native = make_task("CartPole-v1").spec
    spec = seen(wrap)
    assert (spec.observation, spec.action, spec.mirror) == (
        native.observation,
        native.action,
        native.mirror,
    )
    assert (spec.dt, spec.episode_steps, spec.solved_return) == (0.02, 500, 475.0)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: wrappers.TransformAction(env, lambda action: 1 - action, None),
        lambda env: wrappers.StickyAction(env, 0.5),
        lambda env: Step(env, inside=lambda action: 1 - action),
        lambda env: wrappers.RecordEpisodeStatistics(
            Step(Step(env), inside=lambda action: 1 - action)
        ),
    ],
)
def test_changed_actions_have_no_units_any_more(seen, wrap):
    spec = seen(wrap)
    assert action_of(spec) == PLAIN
    assert names_of(spec)[0] == "cart position"
    assert (spec.mirror, spec.dt, spec.solved_return) == (None, 0.02, 475.0)


@pytest.mark.parametrize(
    ("wrap", "size"),
    [
        (lambda env: wrappers.FrameStackObservation(env, 3), 12),
        (wrappers.TimeAwareObservation, 5),
        (lambda env: wrappers.TransformObservation(env, lambda o: -o, None), 4),
        (lambda env: wrappers.DelayObservation(env, 2), 4),
        (lambda env: Step(env, outside=in_place), 4),
        (lambda env: Step(env, outside=lambda step: (2 * step[0], *step[1:])), 4),
    ],
)
def test_changed_observations_have_no_names_any_more(seen, wrap, size):
    spec = seen(wrap)
    assert spec.observation_size == size
    assert names_of(spec)[0].startswith("observation[0")
    assert spec.observation.channels[0].terminates_above == np.inf
    assert action_of(spec) == FORCE
    assert (spec.mirror, spec.dt, spec.episode_steps) == (None, 0.02, 500)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: wrappers.TransformReward(env, lambda reward: reward / 100),
        lambda env: Step(env, outside=reward_of(lambda reward: reward - 0.5)),
    ],
)
def test_changed_rewards_are_solved_at_another_return(seen, wrap):
    spec = seen(wrap)
    assert (action_of(spec), names_of(spec)[0]) == (FORCE, "cart position")
    assert (spec.solved_return, spec.mirror, spec.dt) == (None, None, 0.02)


@pytest.mark.parametrize("make", [ours, lambda: gym.make("CartPole-v1")])
@pytest.mark.parametrize(
    "wrap", [Skip, lambda env: wrappers.RepeatAction(env, 3), wrappers.MaxAndSkipObservation]
)
def test_skipped_steps_have_no_known_sampling_time(seen, wrap, make):
    spec = seen(wrap, make)
    assert (spec.dt, spec.solved_return) == (None, None)
    assert spec.episode_steps == 500


def test_an_end_that_is_taken_away_is_in_no_channel(seen):
    spec = seen(lambda env: Step(env, outside=lambda s: (*s[:2], False, *s[3:])))
    assert {channel.terminates_above for channel in spec.observation.channels} == {np.inf}
    assert names_of(spec)[0] == "cart position"
    assert spec.solved_return is None


def test_a_wrapper_that_knows_better_has_a_spec_of_its_own(seen):
    class Named(gym.ActionWrapper):
        def __init__(self, env):
            super().__init__(env)
            spec = make_task("CartPole-v1").spec
            self.upright_spec = replace(
                spec, action=Choice("force", "N", (10.0, -10.0)), mirror=None
            )

        def action(self, action):
            return 1 - action

    assert action_of(seen(Named)) == ("force", "N", (10.0, -10.0))


def test_another_time_limit_is_that_of_the_registration(registered):
    env = make_env(registered(ours, limit=77))
    assert read_spec(env, TASK).episode_steps == 77


def test_stacked_frames_and_time_are_trained_and_the_file_names_no_force(registered, tmp_path):
    def make():
        env = wrappers.TransformAction(ours(), lambda action: 1 - action, None)
        return wrappers.TimeAwareObservation(
            wrappers.FlattenObservation(wrappers.FrameStackObservation(env, 2))
        )

    registered(make)
    run = upright.train(TASK, out=tmp_path / "run", **BRIEF)
    policy = load_policy(next(run.path.rglob("best.safetensors")))
    assert action_of(policy.spec) == PLAIN
    assert policy.spec.observation_size == 9
    assert upright.evaluate(policy, episodes=2).lengths.min() > 0


class MyNormalizeReward(wrappers.NormalizeReward):
    """Somebody's own."""


REFUSED = {
    wrappers.NormalizeObservation: "NormalizeObservation scales .*agent.scale_observations",
    wrappers.NormalizeReward: "NormalizeReward divides .* lambda r: r / 100",
    MyNormalizeReward: "MyNormalizeReward divides .* lambda r: r / 100",
}


@pytest.mark.parametrize("wrap", REFUSED)
def test_running_normalisation_is_refused_wherever_a_task_is_made(
    registered, tmp_path, wrap, untrained
):
    registered(lambda: wrappers.RecordEpisodeStatistics(wrap(gym.make("Pendulum-v1"))))
    with pytest.raises(UprightError, match=REFUSED[wrap]):
        upright.train(TASK, agent=TINY, seeds=1, steps=600, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    policy = replace(untrained[0], spec=replace(untrained[0].spec, task=TASK))
    with pytest.raises(UprightError, match=REFUSED[wrap]):
        upright.evaluate(policy)
    (found,) = upright.doctor(TASK, agent=TINY).findings
    assert (found.check, found.severity) == ("wrappers", "problem")


def test_frozen_statistics_are_constants(registered):
    def make():
        env = wrappers.NormalizeReward(gym.make("CartPole-v1"))
        env.update_running_mean = False
        return env

    make_env(registered(make)).close()


class Habituates(gym.RewardWrapper):
    """A normalisation that nobody knows."""

    steps = 0

    def reward(self, reward):
        self.steps += 1
        return reward / self.steps


@pytest.fixture
def warned(registered, tmp_path):
    """What a training of this environment warns of."""

    def warned(make):
        registered(make)
        path = tmp_path / "run"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            upright.train(TASK, out=path, **BRIEF)
        texts = [str(w.message) for w in caught if w.category is UprightWarning]
        assert texts == list(Run(path).info.warnings)
        return texts

    return warned


def test_a_wrapper_that_remembers_is_found_by_what_it_does(warned, quick):
    def make():
        return wrappers.RecordEpisodeStatistics(Habituates(gym.make("CartPole-v1")))

    (text,) = warned(make)
    assert "after other episodes the same seed and actions gave reward" in text
    assert "the wrapper Habituates keeps something" in text
    (found,) = upright.doctor(TASK, agent=TINY).problems
    assert (found.check, "the wrapper Habituates" in found.fix) == ("determinism", True)


def test_chance_is_no_memory(warned):
    rng = np.random.default_rng()
    make = gym.make
    assert (
        warned(lambda: wrappers.TransformReward(make("CartPole-v1"), lambda _: rng.random())) == []
    )
