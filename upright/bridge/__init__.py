"""Gymnasium in both directions.

`flat` and `spec`: their environments as our agents and policies see them. `single`, `vector` and
`drawing`: our native tasks as their environments, `upright/CartPole-v1` and the others, a user's
own among them. Importing this registers them; JAX starts with the first one that is made.
"""

import gymnasium as gym

from upright.tasks import catalogue


def _register(name: str, entry: catalogue.Entry) -> None:
    gym.registry.pop(f"upright/{name}", None)  # a task that is registered again replaces the first
    gym.register(
        f"upright/{name}",
        entry_point="upright.bridge.single:NativeEnv",
        vector_entry_point="upright.bridge.vector:NativeVectorEnv",
        max_episode_steps=entry.episode_steps,
        reward_threshold=entry.solved_return,
        kwargs={"task": name},
    )


catalogue.for_each(_register)
