"""The ring of transitions."""

import jax
import jax.numpy as jnp
import numpy as np
from upright.agents.replay import Transition

from upright.agents import replay


def transition(number):
    """Every field tells the number."""
    n = jnp.float32(number)
    return Transition(
        jnp.array([n, -n]), jnp.int32(number % 3), 10 * n, n % 2, jnp.array([2 * n, n])
    )


def filled(capacity, count):
    memory = replay.init(capacity, 2)
    for number in range(count):
        memory = replay.add(memory, transition(number))
    return memory


def numbers_sampled(memory, draws=4000):
    batch = replay.sample(memory, jax.random.bits(jax.random.key(0), (draws,)))
    return np.asarray(batch.observation[:, 0])


def test_a_sampled_transition_is_whole():
    batch = replay.sample(filled(8, 8), jnp.arange(8, dtype=jnp.uint32))
    for i in range(8):
        one = Transition(*(column[i] for column in batch))
        jax.tree.map(np.testing.assert_array_equal, one, transition(i))


def test_only_what_was_added_is_sampled():
    assert set(numbers_sampled(filled(100, 3))) == {0, 1, 2}


def test_the_newest_replace_the_oldest():
    assert set(numbers_sampled(filled(5, 12))) == {7, 8, 9, 10, 11}


def test_sampling_is_uniform():
    counts = np.bincount(numbers_sampled(filled(10, 10), draws=100_000).astype(int), minlength=10)
    # Standard deviation of a count: sqrt(100000 * 0.1 * 0.9) = 95
    assert np.abs(counts - 10_000).max() < 5 * 95
