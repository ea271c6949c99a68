"""Does it learn? Small tasks whose values are known, then CartPole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import AlwaysOne, Probe, RewardOfAction

import upright
from upright.agents.dqn import DQN
from upright.runners.compiled import Compiled

SETTINGS = {
    "hidden": (16,),
    "learning_rate": 3e-3,
    "batch_size": 16,
    "learning_starts": 50,
    "epsilon_end": 1.0,  # every action is seen
    "tau": 0.1,
}


def learned_values(probe, observations, steps=1500, **settings):
    """Q [observation, action] after some training on a probe."""
    agent = DQN(**{**SETTINGS, **settings})
    compiled = Compiled(probe, agent, most_steps=steps, evaluation_episodes=1)
    carry = compiled.init(jax.random.key(0))
    advance = jax.jit(compiled.advance)
    carry, taken, _ = advance(carry, jnp.int32(steps), jnp.int32(2**31 - 1))
    assert int(taken) == steps
    policy = agent.to_policy(carry.agent, probe.spec)
    return policy.q_values(np.array(observations)[:, None])


def test_a_constant_reward_is_its_own_value():
    np.testing.assert_allclose(learned_values(AlwaysOne(), [0.0]), [[1, 1]], atol=0.02)


def test_a_reward_that_depends_on_the_action_separates_the_actions():
    np.testing.assert_allclose(learned_values(RewardOfAction(), [0.0]), [[-1, 1]], atol=0.02)


@pytest.mark.parametrize("double", [False, True])
def test_a_reward_two_steps_away_comes_back_discounted_twice(double):
    values = learned_values(Probe(length=3), [0.0, 1.0, 2.0], 3000, gamma=0.5, double=double)
    np.testing.assert_allclose(values, [[0.25, 0.25], [0.5, 0.5], [1, 1]], atol=0.04)


def test_a_time_limit_is_not_an_end():
    """Reward 1 for ever is worth 1 / (1 - 0.5) = 2, however often a time limit cuts it off."""
    probe = AlwaysOne(length=2, terminates=False, blind=True)
    np.testing.assert_allclose(learned_values(probe, [0.0], gamma=0.5), [[2, 2]], atol=0.05)


def test_an_end_is_an_end():
    """Reward 1 twice: 1 + 0.5 in the first step, 1 in the last one."""
    values = learned_values(AlwaysOne(length=2), [0.0, 1.0], 3000, gamma=0.5)
    np.testing.assert_allclose(values, [[1.5, 1.5], [1, 1]], atol=0.05)


@pytest.mark.parametrize("update", ["episodes", "steps"])
def test_it_learns_with_a_copied_target_network(update):
    settings = {"target_update": update, "target_interval": 20}
    values = learned_values(Probe(length=2), [0.0, 1.0], 3000, gamma=0.5, **settings)
    np.testing.assert_allclose(values, [[0.5, 0.5], [1, 1]], atol=0.05)


def test_cartpole_is_solved_by_four_seeds_of_four(tmp_path):
    run = upright.train("CartPole-v1", seeds="200:204", steps=12_000, out=tmp_path / "run")
    returns = [result.final_evaluation.mean_return for result in run.results]
    assert len(returns) == 4
    assert min(returns) >= 475, returns
