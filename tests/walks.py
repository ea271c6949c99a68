"""Small Gymnasium environments, and what the files of a run hold."""

import json
from dataclasses import replace

import gymnasium as gym
import numpy as np
import safetensors
from safetensors.numpy import load_file

from upright.runs import checkpoint
from upright.tensors import encode
from upright.training.config import Config
from upright.training.runners import make_runner


class Counting(gym.Env):
    """Observes how many steps its episode has had; reward 1 for each."""

    observation_space = gym.spaces.Box(0.0, 8.0, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length=3, terminates=True):
        self.length, self.terminates = length, terminates
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        over = self.terminates and self.steps >= self.length
        return np.full(1, self.steps, np.float32), 1.0, over, False, {}


class Walk(gym.Env):
    """A random walk, pushed to the left or to the right; without bounds, so scales are measured.

    What goes wrong is said by `mishap(walk, place)`, where place is "reset" or "step": it may
    raise, or return what is observed instead. Walks have numbers in the order of their making.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gym.spaces.Discrete(2)
    mishap = staticmethod(lambda walk, place: None)
    made = 0

    def __init__(self):
        Walk.made += 1
        self.number = Walk.made
        self.episodes = self.steps = 0
        self.position = 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episodes += 1
        self.steps = 0
        self.position = self.np_random.normal()
        return self._observe("reset"), {}

    def step(self, action):
        self.steps += 1
        self.position += (-1, 1)[action] + self.np_random.normal()
        away = abs(self.position)
        return self._observe("step"), 1 - away / 4, away > 4, False, {}

    def _observe(self, place):
        wrong = Walk.mishap(self, place)
        seen = [3 * self.position, 100 + self.steps] if wrong is None else wrong
        return np.array(seen, np.float32)


gym.register("Walk-v0", Walk, max_episode_steps=20)


def ended(function):
    """The same training, which returns its run where Ctrl-C follows, too."""

    def run(*arguments, **options):
        try:
            return function(*arguments, **options)
        except KeyboardInterrupt as end:
            return end.run

    return run


def states(run):
    """By seed: all that a runner holds of it, from the newest checkpoint."""
    template = make_runner(Config.from_record(run.info.config)).template()
    found = {}
    for seed in run.seeds:
        folder = run.path / "seeds" / f"{seed:02d}" / "checkpoints"
        found[seed] = checkpoint.newest(
            folder, template, lambda counters: None, lambda found: None
        )[0].state
    return found


def files(run):
    """What a training computes: policies, tables, newest checkpoints; by name, as bytes."""
    paths = [*run.path.glob("*.safetensors"), *run.path.glob("seeds/*/*.safetensors")]
    paths += run.path.glob("seeds/*/*.csv")
    paths += [max(folder.iterdir()) for folder in run.path.glob("seeds/*/checkpoints")]
    return {str(path.relative_to(run.path)): path.read_bytes() for path in paths}


def snapshot(folder):
    """All that is below a folder, files with their content: to see that nothing has changed."""
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != ".lock"
    }


def reseal(path, change):
    """The same file with other content, its checksums right: what a stranger could write."""
    tensors = load_file(path)
    with safetensors.safe_open(path, "numpy") as file:
        header = json.loads(file.metadata()["upright"])
    for checksum in ("sha256", "tensors_sha256"):
        del header[checksum]
    change(header, tensors)
    kind, version = header.pop("format"), header.pop("version")
    path.write_bytes(encode(tensors, kind, version, header))


def outcomes(run):
    """What seed.json tells, apart from who trained when and on what."""
    return [replace(result, stints=(), warnings=()) for result in run.results]
