"""The native tasks as Gymnasium environments: `upright/CartPole-v1` and the others.

Importing this registers them, and `gymnasium.make("upright.environments:upright/CartPole-v1")`
imports it by itself. JAX starts with the first environment that is made.
"""

import gymnasium as gym

from upright.tasks import NAMES

for _name in NAMES:
    # The time limit and the threshold are those of our task, too, and known without JAX.
    _original = gym.spec(_name)
    gym.register(
        f"upright/{_name}",
        entry_point="upright.environments.single:NativeEnv",
        vector_entry_point="upright.environments.vector:NativeVectorEnv",
        max_episode_steps=_original.max_episode_steps,
        reward_threshold=_original.reward_threshold,
        kwargs={"task": _name},
    )
