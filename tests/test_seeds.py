"""The seed axis: what a seed does depends on nothing but the seed."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upright import UprightError
from upright.agents.dqn import DQN
from upright.runners.compiled import Compiled
from upright.runners.compiled_seeds import CompiledRunner
from upright.runners.runner import NO_LIMIT, Segment
from upright.seeds import check_seeds, parse_seeds
from upright.tasks.catalogue import make_task

SETTINGS = DQN(hidden=(32, 32), learning_starts=50, epsilon_end=0.1, epsilon_decay_steps=400)


COMPILED = Compiled(make_task("CartPole-v1"), SETTINGS, most_steps=1000, evaluation_episodes=4)


def trained(seeds, segments=(300, 300), vectorise=None, episodes=NO_LIMIT):
    """The last result of every seed, and its whole log, packed."""
    logs, last = {seed: [] for seed in seeds}, {}
    for group in CompiledRunner(COMPILED, lambda *_: [], vectorise).start(tuple(seeds), {}):
        for steps in segments:
            segment = Segment(steps, episodes, evaluate=True, save=True)
            for result in group.run(dict.fromkeys(group.seeds, segment)):
                logs[result.seed].append(result.log.pack())
                last[result.seed] = result
    return last, {seed: np.concatenate(log) for seed, log in logs.items()}


def digest(agent):
    leaves = [np.ascontiguousarray(leaf).tobytes() for leaf in jax.tree.leaves(agent)]
    return hashlib.sha256(b"".join(leaves)).hexdigest()


def test_a_seed_alone_is_bit_for_bit_the_seed_among_eight():
    alone, log_alone = trained([7])
    among, log_among = trained(range(8))
    assert digest(alone[7].state.agent) == digest(among[7].state.agent)
    assert np.array_equal(log_alone[7], log_among[7])
    assert np.array_equal(alone[7].returns, among[7].returns)
    assert len({digest(result.state.agent) for result in among.values()}) == 8


def test_the_length_of_the_segments_does_not_matter():
    whole, log_whole = trained([3], segments=(600,))
    parts, log_parts = trained([3], segments=(1, 299, 0, 200, 100))
    assert digest(whole[3].state.agent) == digest(parts[3].state.agent)
    assert np.array_equal(log_whole[3], log_parts[3])


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs a choice of cores",
)
def test_the_number_of_cores_does_not_matter():
    program = (
        "import os, sys, test_seeds;"
        "os.sched_setaffinity(0, set(list(os.sched_getaffinity(0))[: int(sys.argv[1])]));"
        "print(test_seeds.digest(test_seeds.trained([7, 8])[0][7].state.agent))"
    )
    command = [sys.executable, "-c", program]
    digests = {
        subprocess.run(
            [*command, str(cores)], cwd=os.path.dirname(__file__), capture_output=True, check=True
        ).stdout
        for cores in (1, 2)
    }
    assert len(digests) == 1


def test_vectorised_seeds_learn_the_same():
    """In other rounding: batched products add in another order, so only the beginning is equal."""
    threads, log_threads = trained([4, 5], segments=(60,), vectorise=False)
    batched, log_batched = trained([4, 5], segments=(60,), vectorise=True)
    for seed in (4, 5):
        np.testing.assert_allclose(log_threads[seed], log_batched[seed], rtol=1e-3, atol=1e-4)
        for a, b in zip(
            jax.tree.leaves(threads[seed].state.agent),
            jax.tree.leaves(batched[seed].state.agent),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("vectorise", [False, True])
def test_a_seed_stops_with_its_last_episode(vectorise):
    """In the step that ends it, whatever the others still have to do."""
    _, logs = trained([0, 1, 2], segments=(300, 300), vectorise=vectorise, episodes=5)
    for log in logs.values():
        assert log[:, 0].sum() == 5
        assert log[-1, 0] == 1
    assert len({len(log) for log in logs.values()}) > 1


def test_no_random_number_is_used_twice():
    """Neither by two steps, nor by two seeds, nor for two purposes, nor by the evaluation."""
    compiled = replace(COMPILED, most_steps=100, evaluation_episodes=50)
    carries = [compiled.init(jax.random.key(seed)) for seed in (0, 1)]
    draws = [compiled.draw(carry.key, jnp.int32(t)) for carry in carries for t in range(50)]
    # 6,400 numbers of 32 bits: two alike by chance once in 200 such tests; this one is fixed.
    bits = np.concatenate([np.ravel(draw.memory) for draw in draws])
    assert len(np.unique(bits)) == len(bits)
    assert len({float(draw.agent.explore[0]) for draw in draws}) == 100
    starts = [*(draw.reset.x[0] for draw in draws), *(c.environment.x[0] for c in carries)]
    starts += list(jax.vmap(compiled.task.reset)(compiled.evaluation_keys()).x)
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
        ("9" * 30, "9 seeds; at most 100000"),
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


def test_each_seed_of_a_vectorised_group_does_what_it_was_asked():
    """Also where the seeds are at different steps, as after a budget of episodes."""
    (group,) = CompiledRunner(COMPILED, lambda *_: [], vectorise=True).start((0, 1, 2), {})
    first, second = group.run({0: Segment(10, evaluate=True), 1: Segment(30)})
    assert (len(first.log.ended), first.returns.shape) == (10, (4,))
    assert (len(second.log.ended), second.returns) == (30, None)
    saved = group.run(dict.fromkeys((0, 1, 2), Segment(0, save=True)))
    assert [int(result.state.steps) for result in saved] == [10, 30, 0]
    (ended,) = group.run({1: Segment(900, episodes=3, evaluate=True)})
    assert 0 < len(ended.log.ended) < 900
    assert ended.returns is None, "an evaluation belongs to the step that was asked for"
