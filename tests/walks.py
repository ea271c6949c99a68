"""Small Gymnasium environments, and what a checkpoint of a run holds."""

import gymnasium as gym
import numpy as np
from upright.training.drivers import make_driver

from upright.training import checkpoints
from upright.training.config import Config


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


def states(run):
    """By seed: all that the newest checkpoint of a run holds."""
    template = make_driver(Config.from_dict(run.info["config"])).template()
    checkpoint, _ = checkpoints.newest(run.path / "checkpoints", template)
    return checkpoint.states


def files(run, sort=False):
    """What a training computes: policies, CSV files, newest checkpoint; by name, as bytes.

    `sort`: the rows of the seeds may come in another order.
    """
    paths = [*run.path.glob("policies/*"), *run.path.glob("*.csv")]
    paths += sorted(run.path.glob("checkpoints/*"))[-1:]
    contents = {str(path.relative_to(run.path)): path.read_bytes() for path in paths}
    if sort:
        for name in contents:
            if name.endswith(".csv"):
                contents[name] = b"\n".join(sorted(contents[name].splitlines()))
    return contents
