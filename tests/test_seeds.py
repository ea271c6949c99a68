"""The seed axis: what a seed does depends on nothing but the seed."""

import hashlib
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from upright.training.fleet import Fleet, Order
from upright.training.fused import Fused
from upright.training.fused_crew import FusedDriver

from upright import UprightError
from upright.agents.dqn import DQN
from upright.tasks.catalogue import make_task
from upright.training.seeds import check_seeds, parse_seeds

SETTINGS = DQN(hidden=(32, 32), warmup_steps=50, epsilon_end=0.1, epsilon_decay_steps=400)


def fleet_results(seeds, chunks=(300, 300), vectorise=None, episodes=2**31 - 1):
    """The last result of every seed, and its whole log."""
    driver = Fused(make_task("CartPole-v1"), SETTINGS, chunk=1000, evaluation_episodes=4)
    orders = {seed: [Order(steps, episodes, evaluate=True) for steps in chunks] for seed in seeds}
    logs, last = {seed: [] for seed in seeds}, {}
    crews = FusedDriver(driver, vectorise).crews(tuple(seeds), None, lambda steps: False)
    with Fleet(crews) as fleet:
        for result in fleet.run(lambda seed: orders[seed].pop(0) if orders[seed] else None):
            logs[result.seed].append(result.log)
            last[result.seed] = result
    return last, {seed: np.concatenate(log) for seed, log in logs.items()}


def digest(agent):
    leaves = [np.ascontiguousarray(leaf).tobytes() for leaf in jax.tree.leaves(agent)]
    return hashlib.sha256(b"".join(leaves)).hexdigest()


def test_a_seed_alone_is_bit_for_bit_the_seed_among_eight():
    alone, log_alone = fleet_results([7])
    among, log_among = fleet_results(range(8))
    assert digest(alone[7].agent) == digest(among[7].agent)
    assert np.array_equal(log_alone[7], log_among[7])
    assert np.array_equal(alone[7].returns, among[7].returns)
    assert len({digest(result.agent) for result in among.values()}) == 8


def test_the_length_of_the_chunks_does_not_matter():
    whole, log_whole = fleet_results([3], chunks=(600,))
    parts, log_parts = fleet_results([3], chunks=(1, 299, 0, 200, 100))
    assert digest(whole[3].agent) == digest(parts[3].agent)
    assert np.array_equal(log_whole[3], log_parts[3])


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs a choice of cores",
)
def test_the_number_of_cores_does_not_matter():
    program = (
        "import os, sys, test_seeds;"
        "os.sched_setaffinity(0, set(list(os.sched_getaffinity(0))[: int(sys.argv[1])]));"
        "print(test_seeds.digest(test_seeds.fleet_results([7, 8])[0][7].agent))"
    )
    command = [sys.executable, "-c", program]
    digests = {
        subprocess.run(
            [*command, str(cores)], cwd=os.path.dirname(__file__), capture_output=True, check=True
        ).stdout
        for cores in (1, 2)
    }
    assert len(digests) == 1


def test_a_vectorised_fleet_learns_the_same():
    """In other rounding: batched products add in another order, so only the beginning is equal."""
    threads, log_threads = fleet_results([4, 5], chunks=(60,), vectorise=False)
    batched, log_batched = fleet_results([4, 5], chunks=(60,), vectorise=True)
    for seed in (4, 5):
        np.testing.assert_allclose(log_threads[seed], log_batched[seed], rtol=1e-3, atol=1e-4)
        for a, b in zip(
            jax.tree.leaves(threads[seed].agent), jax.tree.leaves(batched[seed].agent), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("vectorise", [False, True])
def test_a_seed_stops_with_its_last_episode(vectorise):
    """In the step that ends it, whatever the others still have to do."""
    _, logs = fleet_results([0, 1, 2], chunks=(300, 300), vectorise=vectorise, episodes=5)
    for log in logs.values():
        assert log[:, 0].sum() == 5
        assert log[-1, 0] == 1
    assert len({len(log) for log in logs.values()}) > 1


def test_no_random_number_is_used_twice():
    """Neither by two steps, nor by two seeds, nor for two purposes, nor by the evaluation."""
    driver = Fused(make_task("CartPole-v1"), SETTINGS, chunk=100, evaluation_episodes=50)
    carries = [driver.init(jax.random.key(seed)) for seed in (0, 1)]
    draws = [driver.draw(carry.key, jnp.int32(t)) for carry in carries for t in range(50)]
    # 6,400 numbers of 32 bits: two alike by chance once in 200 such tests; this one is fixed.
    bits = np.concatenate([np.ravel(draw.replay) for draw in draws])
    assert len(np.unique(bits)) == len(bits)
    assert len({float(draw.act.explore) for draw in draws}) == 100
    starts = [*(draw.reset.x for draw in draws), *(carry.environment.x for carry in carries)]
    starts += list(jax.vmap(driver.task.reset)(driver.evaluation_keys()).x)
    assert len({np.asarray(start).tobytes() for start in starts}) == 100 + 2 + 50


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", (0, 1, 2)), ("1000:1003", (1000, 1001, 1002)), ("3,5,8", (3, 5, 8)), ("7,", (7,))],
)
def test_seeds_are_a_number_a_range_or_a_list(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("many", "seeds 'many': expected a number"),
        ("1:2:3", "seeds '1:2:3': expected"),
        ("1,,2", "expected"),
        ("1.5", "expected"),
        ("", "expected"),
        ("9" * 30, "expected"),
        ("0", "seeds '0': expected"),
        ("-1", "seeds '-1': expected"),
        ("5:5", "no seeds"),
        ("999999999", "999999999 seeds"),
        ("3,5,3", "seed 3 is given more than once"),
        ("-2,3", "seed -2; a seed must be at least 0"),
        ("4294967296,", "seed 4294967296"),
    ],
)
def test_other_seeds_are_refused_with_their_value(text, complaint):
    with pytest.raises(UprightError, match=complaint):
        parse_seeds(text)


def test_a_sequence_of_seeds_is_checked_too():
    with pytest.raises(UprightError, match="seed 1 is given more than once"):
        check_seeds([1, 1])


def test_each_seed_of_a_vectorised_crew_does_what_it_was_ordered():
    """Also where the seeds are at different steps, as after a budget of episodes."""
    driver = Fused(make_task("CartPole-v1"), SETTINGS, chunk=1000, evaluation_episodes=4)
    (crew,) = FusedDriver(driver, vectorise=True).crews((0, 1, 2), None, lambda steps: False)
    no_limit = 2**31 - 1
    orders = {0: Order(10, no_limit, evaluate=True), 1: Order(30, no_limit, evaluate=False)}
    first, second = crew.work(orders)
    assert (len(first.log), first.returns.shape) == (10, (4,))
    assert (len(second.log), second.returns) == (30, None)
    assert [int(state.agent.steps) for state in crew.states().values()] == [10, 30, 0]
    (ended,) = crew.work({1: Order(900, 3, evaluate=True)})
    assert 0 < len(ended.log) < 900
    assert ended.returns is None, "an evaluation belongs to the step that was ordered"
