"""Runners: how programs are compiled, and what is left behind when a beginning fails."""

import os
import subprocess
import sys
import zlib

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upright import DQN, Channel, Choice, Spec, Vector
from upright.bridge.flat import Flat
from upright.errors import UprightError
from upright.runners import jit, program_cache
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


def counted():
    return Flat(Counted(), SPEC.action, range(2))


@pytest.fixture
def runner(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    for name in ("alive", "made", "broken"):
        monkeypatch.setattr(Counted, name, 0)
    agent = DQN(hidden=(4,), batch_size=4, learning_starts=4, replay_size=50)
    return HostedRunner(SPEC, agent, 20, lambda _: counted(), lambda *_: [], (1, 2))


@pytest.mark.parametrize("broken", [1, 2, 3, 4, 5, 6])
def test_a_beginning_that_fails_leaves_no_environment_open(runner, broken):
    """In the first group or in the second, to learn in or to evaluate in."""
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


def test_kept_programs_have_a_limit_and_a_place_of_the_users(monkeypatch, tmp_path):
    assert 0 < jax.config.values["jax_compilation_cache_max_size"] <= 2**30
    monkeypatch.delenv("UPRIGHT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    folder = program_cache.ready_folder()
    assert folder.is_relative_to(tmp_path)
    assert folder.parts[-2:] == ("upright", "programs")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UPRIGHT_CACHE", str(tmp_path / "file" / "cache"))
    assert program_cache.ready_folder() is None


def compile_some(folder):
    """In a process of its own, with a cache of its own; the sizes of its entries."""
    program = (
        "import jax; from upright.runners import jit; jit.prepare();"
        "[jit.compile_all([jax.jit(lambda x: x + n).lower(1.0)]) for n in range(5)]"
    )
    environment = {**os.environ, "UPRIGHT_CACHE": str(folder)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stderr == ""
    return {path: path.stat().st_size for path in sorted(folder.glob("*-cache"))}


def test_damaged_programs_are_thrown_away_and_written_again(tmp_path):
    """As a killed process leaves them (cut, not dated yet) and a power cut (empty, zeros)."""
    whole = compile_some(tmp_path)
    assert len(whole) == 5
    cut, undated, empty, zeros, kept = whole
    written = kept.stat().st_mtime_ns
    cut.write_bytes(cut.read_bytes()[:-9])
    undated.write_bytes(undated.read_bytes()[:100])
    undated.with_name(undated.name.replace("-cache", "-atime")).unlink()
    empty.write_bytes(b"")
    zeros.write_bytes(bytes(whole[zeros]))
    again = compile_some(tmp_path)
    assert again.keys() == whole.keys()
    for path, size in again.items():
        assert abs(size - whole[path]) < 9, "it is packed with the time that it took"
        assert zlib.decompress(path.read_bytes())
    assert kept.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("name", "value"),
    [("jax_enable_x64", True), ("jax_disable_jit", True), ("jax_default_prng_impl", "rbg")],
)
def test_settings_of_jax_that_change_results_are_refused(name, value):
    before = jax.config.values[name]
    jax.config.update(name, value)
    try:
        with pytest.raises(UprightError, match=f"{name} is {value}.*{name.upper()}"):
            jit.prepare()
    finally:
        jax.config.update(name, before)


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
