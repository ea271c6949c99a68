"""What several tests need."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import jax
import numpy as np
import pytest

from upright.agents.dqn import DQN
from upright.policy import Provenance, Score
from upright.runners import jit
from upright.tasks.catalogue import make_task

# Compiled programs of the tests alone, for the processes that they start, too; kept, as they save
# minutes. Then the first computation may come, as a user has it.
os.environ["UPRIGHT_CACHE"] = str(Path(__file__).parents[1] / ".pytest_cache" / "programs")
jit.prepare()


@pytest.fixture(scope="session")
def untrained():
    """A random CartPole policy, and the network that it was made of."""
    agent, spec = DQN(hidden=(128, 128)), make_task("CartPole-v1").spec
    state = agent.init(jax.random.key(3), spec)
    provenance = Provenance("DQN", seed=3, step=0, evaluation=Score(9.0, 8.0, 10.0, episodes=50))
    return replace(agent.to_policy(state, spec), provenance=provenance), state


@pytest.fixture(autouse=True)
def sigint():
    """The command line changes the handler; its process would take it with it."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def register(monkeypatch):
    """Makes an environment known, for the time of a test; whatever arguments it is made with."""

    def register(task, make, limit=None):
        spec = gym.envs.registration.EnvSpec(task, lambda **_: make(), max_episode_steps=limit)
        monkeypatch.setitem(gym.registry, task, spec)
        return task

    return register


@pytest.fixture
def quick(monkeypatch):
    """The doctor without the speed, which needs a compiler."""
    monkeypatch.setattr("upright.diagnosis._timed", lambda *_: [])


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs a command line as the shell would; returns exit status, stdout and stderr."""
    from upright import cli

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["upright", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        output = capsys.readouterr()
        return status, output.out, output.err

    return call
