"""Statistics against numbers worked by hand, and the curves that are drawn from them."""

import json

import numpy as np
import pytest

from upright import UprightError
from upright.evaluation import statistics
from upright.figures import curves
from upright.runs import COLUMNS, Run


def test_interquartile_mean_cuts_a_quarter_on_each_side():
    # 1, 100 and -50, 7 go; (2 + 3 + 4 + 6) / 4
    scores = np.array([[100.0], [3], [2], [1 - 51], [6], [4], [1], [7]])
    np.testing.assert_allclose(statistics.interquartile_mean(scores), [(2 + 3 + 4 + 6) / 4])


def test_the_interval_covers_the_truth_as_often_as_it_says(rng):
    """Of 1000 samples of 40 seeds, about 95 % of the intervals hold the true value.

    The percentile bootstrap is a little narrow for few seeds: 0.93 is what it has here.
    """
    data = rng.normal(5.0, 2.0, (40, 1000))
    low, high = statistics.interval([data], np.random.default_rng(1))
    covered = np.mean((low <= 5.0) & (high >= 5.0))
    assert 0.91 <= covered <= 0.97, covered


def test_the_interval_follows_its_generator_and_nothing_else(rng):
    data = [rng.normal(size=(10, 3))]
    one, same, other = (statistics.interval(data, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_strata_are_resampled_apart():
    """Two tasks without spread inside: no resample changes the middle of the mixture."""
    strata = [np.zeros((5, 1)), np.ones((5, 1))]
    low, high = statistics.interval(strata, np.random.default_rng(0))
    np.testing.assert_allclose([low, high], [[0.5], [0.5]])


def test_one_seed_has_no_interval():
    low, high = statistics.interval([np.array([[1.0, 2.0]])], np.random.default_rng(0))
    assert list(low) == list(high) == [1.0, 2.0]


def test_moving_average_starts_with_what_is_there():
    average = statistics.moving_average(np.array([1.0, 3.0, 5.0, 7.0]), 3)
    np.testing.assert_allclose(average, [1, 2, 3, 5])


@pytest.fixture
def run(tmp_path):
    """Two seeds: three and two episodes."""
    rows = [
        "0,1,10,10,10,1",
        "0,2,30,20,20,1",
        "0,3,60,30,30,1",
        "1,1,40,40,40,1",
        "1,2,90,50,50,1",
    ]
    text = "\n".join([",".join(COLUMNS["episodes"]), *rows])
    (tmp_path / "episodes.csv").write_text(text + "\n")
    write_info(tmp_path, ["finished", "finished"])
    return Run(tmp_path)


def write_info(path, states):
    info = dict.fromkeys(["status", "started", "command"])
    info |= {"config": {"task": "t", "preset": "p"}, "spec": {"solved_return": None}}
    info |= {"format": "upright-run", "version": 2, "seeds": [0, 1]}
    info["results"] = [{"seed": seed, "state": state} for seed, state in enumerate(states)]
    (path / "run.json").write_text(json.dumps(info))


def test_by_episode_ends_with_the_shortest_seed(run):
    result = curves.by_episode(run, run.seeds)
    assert list(result.x) == [1, 2]
    assert result.returns.tolist() == [[10, 20], [40, 50]]
    assert result.label == "episode"


def test_many_episodes_are_averaged_in_bins(run, monkeypatch):
    monkeypatch.setattr(curves, "_POINTS", 2)
    result = curves.by_episode(run, run.seeds)
    assert result.window == 2
    assert list(result.x) == [2]
    assert result.returns.tolist() == [[15], [45]]


def test_by_step_holds_the_last_ended_episode(run, monkeypatch):
    monkeypatch.setattr(curves, "_POINTS", 7)
    result = curves.by_step(run, run.seeds)
    assert list(result.x) == [0, 10, 20, 30, 40, 50, 60]
    assert result.returns.tolist() == [[10, 10, 10, 20, 20, 20, 30], [40, 40, 40, 40, 40, 40, 40]]


@pytest.mark.parametrize(("diverged", "x"), [(0, [1, 2]), (1, [1, 2, 3])])
def test_a_seed_that_diverged_does_not_cut_the_others(run, tmp_path, diverged, x):
    states = ["finished", "finished"]
    states[diverged] = "diverged"
    write_info(run.path, states)
    run = Run(run.path)
    result = curves.by_episode(run, run.seeds)
    assert list(result.x) == x
    assert result.returns.tolist() == [[[10, 20, 30], [40, 50]][1 - diverged]]
    assert len(result.single) == 2
    assert len(curves.plot(run, str(tmp_path / "figures"))) == 2


def test_a_seed_that_diverged_at_once_is_left_out(run):
    write_info(run.path, ["finished", "diverged"])
    table = (run.path / "episodes.csv").read_text().splitlines()
    (run.path / "episodes.csv").write_text("\n".join(table[:4]) + "\n")
    result = curves.by_step(Run(run.path), run.seeds)
    assert len(result.single) == len(result.returns) == 1
    with pytest.raises(UprightError, match="seed 1 has no finished episode"):
        curves.by_step(Run(run.path), [1])
