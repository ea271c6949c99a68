"""Runners: how programs are compiled, and what is left behind when a beginning fails."""

import os
from pathlib import Path

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upright import DQN, Channel, Choice, Spec, Vector
from upright.evaluation.episodes import Episodes
from upright.runners import jit
from upright.runners.hosted import HostedRunner
from upright.runners.runner import Segment

SPEC = Spec("Step", Vector((Channel("x", "m"),)), Choice("push", "N", (-1.0, 1.0)), 0.1, 10)


class Counted(gym.Env):
    """Tells how many of it are alive; the one with number `broken` cannot be made."""

    observation_space = gym.spaces.Box(-9.0, 9.0, (1,))
    action_space = gym.spaces.Discrete(2)
    alive = 0
    made = 0
    broken = 0

    def __init__(self):
        Counted.made += 1
        if Counted.made == Counted.broken:
            raise RuntimeError("no such port")
        Counted.alive += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, False, False, {}

    def close(self):
        Counted.alive -= 1


@pytest.fixture
def runner(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    for name in ("alive", "made", "broken"):
        monkeypatch.setattr(Counted, name, 0)
    agent = DQN(hidden=(4,), batch_size=4, learning_starts=4, replay_size=50)
    return HostedRunner(SPEC, agent, 20, lambda seed: Counted(), lambda: Episodes(Counted, ()))


@pytest.mark.parametrize("broken", [1, 2, 3, 4])
def test_a_beginning_that_fails_leaves_no_environment_open(runner, broken):
    """In the first group or in the second."""
    Counted.broken = broken
    with pytest.raises(RuntimeError, match="no such port"):
        runner.start(range(4), {})
    assert Counted.made == broken
    assert Counted.alive == 0


def test_after_a_resume_the_seeds_at_one_step_are_shared_among_the_cores(runner):
    """Whoever is missing, or is ahead: not a group, and a program, for each run of neighbours."""
    states = {}
    for group in runner.start(range(20), {}):
        ahead = {seed: Segment(10 if seed % 2 else 20, save=True) for seed in group.seeds}
        for seed, segment in ahead.items():
            states[seed] = group.run({seed: segment})[0].state
        group.close()
    groups = runner.start([seed for seed in range(20) if seed != 7], states)
    steps = [{int(states[seed].steps) for seed in group.seeds} for group in groups]
    assert all(len(each) == 1 for each in steps)
    assert sorted(seed for group in groups for seed in group.seeds) == [
        seed for seed in range(20) if seed != 7
    ]
    assert len(groups) <= 2 * len(set().union(*steps))
    for group in groups:
        group.close()


def test_an_unknown_compiler_flag_costs_speed_and_nothing_else(monkeypatch):
    monkeypatch.setitem(jit._CPU_OPTIONS, "xla_cpu_of_tomorrow", True)
    (program,) = jit.compile_all([jax.jit(lambda x: x + 1).lower(jnp.ones(3))])
    assert program(jnp.ones(3)).tolist() == [2, 2, 2]


def test_kept_programs_have_a_limit_and_a_place_of_the_users():
    folder = Path(jax.config.values["jax_compilation_cache_dir"])
    assert folder.parts[-2:] == ("upright", "programs")
    assert 0 < jax.config.values["jax_compilation_cache_max_size"] <= 2**30


def test_a_cache_folder_that_the_user_has_chosen_stays(monkeypatch, tmp_path):
    before = dict(jax.config.values)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        jit.prepare()
        assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path)
    finally:
        jax.config.update("jax_compilation_cache_dir", before["jax_compilation_cache_dir"])


def test_a_seed_that_has_no_state_yet_begins_beside_those_at_step_0(runner):
    """As after a kill between the first checkpoints of a run's seeds."""
    states = {}
    for group in runner.start(range(3), {}):
        for result in group.run(dict.fromkeys(group.seeds, Segment(0, save=True))):
            states[result.seed] = result.state
        group.close()
    groups = runner.start(range(4), states)
    segment = Segment(10, save=True)
    results = [r for group in groups for r in group.run(dict.fromkeys(group.seeds, segment))]
    assert {result.seed: int(result.state.steps) for result in results} == dict.fromkeys(
        range(4), 10
    )
    for group in groups:
        group.close()
