"""What is kept of experience: the ring of transitions, and the rollout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upright.memory.replay import Replay
from upright.memory.rollout import Rollout
from upright.memory.transition import Transition


def transition(number, environments=1):
    """Every member tells the number; of the environments the last digit."""
    n = jnp.float32(number) + jnp.arange(environments) / 10
    return Transition(
        observation=jnp.stack([n, -n], axis=-1),
        action=jnp.full(environments, number % 3, jnp.int32),
        reward=10 * n,
        discount=n % 2,
        next_observation=jnp.stack([2 * n, n], axis=-1),
        ended=jnp.full(environments, number % 2 == 0),
        extras=(n / 7,),
    )


def filled(capacity, count, draws=4000, environments=1):
    like = jax.eval_shape(lambda: transition(0, environments))
    memory = Replay.of(like, capacity, 1, draws, learning_starts=4)
    content = memory.init()
    for number in range(count):
        content = memory.add(content, transition(number, environments))
    return memory, content


def numbers_sampled(memory, content):
    sampled = memory.sample(content, memory.draw(jax.random.key(0)))
    return np.asarray(memory.unpack(sampled).observation[0, :, 0])


def test_a_sampled_transition_is_whole():
    memory, content = filled(8, 8)
    batch = memory.unpack(memory.sample(content, jnp.arange(8, dtype=jnp.uint32)[None]))
    for i in range(8):
        one = jax.tree.map(lambda column, i=i: column[0, i : i + 1], batch)
        jax.tree.map(np.testing.assert_array_equal, one, transition(i))
        assert [leaf.dtype for leaf in jax.tree.leaves(one)] == [
            leaf.dtype for leaf in jax.tree.leaves(transition(i))
        ]


def test_only_what_was_added_is_sampled():
    assert set(numbers_sampled(*filled(100, 3))) == {0, 1, 2}


def test_the_newest_replace_the_oldest():
    assert set(numbers_sampled(*filled(5, 12))) == {7, 8, 9, 10, 11}


def test_sampling_is_uniform():
    counts = np.bincount(numbers_sampled(*filled(10, 10, draws=100_000)).astype(int), minlength=10)
    # Standard deviation of a count: sqrt(100000 * 0.1 * 0.9) = 95
    assert np.abs(counts - 10_000).max() < 5 * 95


def test_every_environment_of_a_tick_is_kept():
    """Capacity 8 for 3 environments is 9: a tick never wraps around."""
    memory, content = filled(8, 4, environments=3)
    found = np.unique(numbers_sampled(memory, content))
    expected = [tick + environment / 10 for tick in (1, 2, 3) for environment in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_learning_is_due_once_there_is_more_than_it_starts_with():
    memory, _ = filled(8, 0)
    assert [memory.due(added) for added in (1, 4, 5, 100)] == [False, False, True, True]


def test_what_is_stored_is_what_was_written():
    memory, content = filled(10, 3)
    stored = memory.stored(content)
    assert stored.rows.shape[0] == 3
    jax.tree.map(np.testing.assert_array_equal, memory.restored(stored), content)


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_rollout_is_whole_and_in_order_when_it_is_due(rounds):
    like = jax.eval_shape(lambda: transition(0, 2))
    memory = Rollout.of(like, ticks=5)
    content = memory.init()
    for number in range(5 * rounds):
        content = memory.add(content, transition(number, 2))
        due = memory.due(content.added)
        assert bool(due) == (number % 5 == 4)
    rollout = memory.unpack(memory.sample(content, memory.draw(jax.random.key(0))))
    expected = [transition(number, 2) for number in range(5 * (rounds - 1), 5 * rounds)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *expected)
    jax.tree.map(np.testing.assert_array_equal, rollout, stacked)
