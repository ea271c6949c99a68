"""Statistics against numbers worked by hand, and the curves that are drawn from them."""

import numpy as np
import pytest

from upright import UprightError
from upright.evaluation import statistics
from upright.figures import curves
from upright.runs import Run
from upright.runs.folder import EPISODES, RunConfig, RunInfo, SeedInfo, seed_folder
from upright.runs.provenance import Platform
from upright.tasks.catalogue import make_task


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
    rows = {
        0: ["1,10,10,10,1", "2,30,20,20,1", "3,60,30,30,1"],
        1: ["1,40,40,40,1", "2,90,50,50,1"],
    }
    for seed, lines in rows.items():
        seed_folder(tmp_path, seed).mkdir(parents=True)
        text = "\n".join([",".join(EPISODES), *lines])
        (seed_folder(tmp_path, seed) / "episodes.csv").write_text(text + "\n")
    config = RunConfig("t", "compiled", "p", {"name": "DQN"}, (0, 1), 90, None, 10, 10, 10)
    platform = Platform({}, None, "", "", 1, "")
    info = RunInfo(
        "2026-01-01", None, config, (), make_task("CartPole-v1").spec.to_dict(), platform
    )
    (tmp_path / "run.json").write_bytes(info.to_bytes())
    write_states(tmp_path, ["finished", "finished"])
    return Run(tmp_path)


def write_states(path, states):
    for seed, state in enumerate(states):
        (seed_folder(path, seed) / "seed.json").write_bytes(SeedInfo(seed, state).to_bytes())


def test_a_table_has_the_rows_of_all_seeds_and_says_whose_they_are(run):
    table = run.table("episodes")
    assert list(table) == ["seed", "episode", "step", "return", "length", "terminated"]
    assert list(table["seed"]) == [0, 0, 0, 1, 1]
    assert list(table["step"]) == [10, 30, 60, 40, 90]


def test_a_row_that_is_being_written_is_none_yet(run):
    with (seed_folder(run.path, 0) / "episodes.csv").open("a") as file:
        file.write("4,80,2")
    assert list(run.table("episodes")["step"]) == [10, 30, 60, 40, 90]


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
    write_states(run.path, states)
    run = Run(run.path)
    result = curves.by_episode(run, run.seeds)
    assert list(result.x) == x
    assert result.returns.tolist() == [[[10, 20, 30], [40, 50]][1 - diverged]]
    assert len(result.single) == 2
    assert len(curves.plot(run, str(tmp_path / "figures"))) == 2


def test_a_seed_that_diverged_at_once_is_left_out(run):
    write_states(run.path, ["finished", "diverged"])
    path = seed_folder(run.path, 1) / "episodes.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    result = curves.by_step(Run(run.path), run.seeds)
    assert len(result.single) == len(result.returns) == 1
    with pytest.raises(UprightError, match="seed 1 has no finished episode"):
        curves.by_step(Run(run.path), [1])
