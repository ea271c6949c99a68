"""Gymnasium in both directions.

`flat` and `spec`: their environments as our agents and policies see them. `single`, `vector` and
`drawing`: our native tasks as their environments, `upright/CartPole-v1` and the others. Importing
this registers them; JAX starts with the first one that is made.
"""

import gymnasium as gym

from upright.tasks import NAMES, limits

for _name in NAMES:
    _steps, _solved = limits(_name)
    gym.register(
        f"upright/{_name}",
        entry_point="upright.bridge.single:NativeEnv",
        vector_entry_point="upright.bridge.vector:NativeVectorEnv",
        max_episode_steps=_steps,
        reward_threshold=_solved,
        kwargs={"task": _name},
    )
