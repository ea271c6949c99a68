"""Small samples of tests/reliability/configurations.py and learner_threads.py."""

import pytest
from reliability import configurations, learner_threads


# Hosted, with a bound on gradients: a batch of one and a budget of episodes; three actions.
@pytest.mark.parametrize("number", [3, 5])
def test_a_seed_is_the_same_alone_in_company_on_one_core_and_interrupted(number):
    assert configurations.main(["--first", str(number), "--count", "1"]) == 0


def test_a_learner_learns_and_is_saved_in_threads_beside_a_control_loop(tmp_path):
    complaints, calls, times = learner_threads.run(1.5, 0, tmp_path)
    assert not complaints
    assert calls["learn"] > 0
    assert calls["save"] > 0
    assert len(times) == 300
