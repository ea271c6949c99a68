"""Environment steps per second of Stable-Baselines3's DQN on the benchmark's workload.

Runs in a virtual environment of its own (see `venv.py`) and prints one line of JSON.
"""

import argparse
import json
import time
from importlib.metadata import version

import gymnasium
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv

WARM_UP_STEPS = 1_000


def make_agent() -> DQN:
    return DQN(
        "MlpPolicy",
        # A VecEnv of our own: SB3 would put a Monitor around a plain environment, which costs time.
        DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]),
        policy_kwargs={"net_arch": [128, 128], "activation_fn": torch.nn.ReLU},
        learning_rate=5e-4,
        gamma=0.98,
        batch_size=32,
        buffer_size=10_000,
        learning_starts=100,
        train_freq=1,
        gradient_steps=1,
        target_update_interval=500,
        exploration_initial_eps=0.1,
        exploration_final_eps=0.1,
        device="cpu",
        seed=0,
    )


def steps_per_second(agent: DQN, steps: int) -> float:
    start = time.perf_counter()
    # No log: its statistics cost time.
    agent.learn(steps, log_interval=None, reset_num_timesteps=False)
    return steps / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--steps", type=int, default=5_000, help="environment steps to measure")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    agent = make_agent()
    steps_per_second(agent, WARM_UP_STEPS)
    result = {
        "steps_per_second": round(steps_per_second(agent, arguments.steps), 1),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("stable-baselines3", "torch", "gymnasium")},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
