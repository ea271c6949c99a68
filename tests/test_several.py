"""Several processes and several machines on one training: joining a run, merging runs."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from walks import files, outcomes

import upright
from upright import DQN, Run, UprightError
from upright.errors import UprightWarning

QUICK = DQN(hidden=(8,), batch_size=8, learning_starts=50, epsilon_decay_steps=500)
BUDGET = {"steps": 700, "evaluate_every": 250, "evaluation_episodes": 2}
WORDS = ["--steps", "700", "--evaluate-every", "250", "--evaluation-episodes", "2"]
WORDS += ["--agent.hidden", "8", "--agent.batch-size", "8", "--agent.learning-starts", "50"]
WORDS += ["--agent.epsilon-decay-steps", "500"]


def train(out, seeds, **arguments):
    options = {"agent": QUICK, **BUDGET, **arguments}
    return upright.train("CartPole-v1", out=out, seeds=seeds, **options)


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Seeds 0 to 3, trained by one process."""
    return train(tmp_path_factory.mktemp("runs") / "four", 4)


def snapshot(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_merged_runs_are_as_if_one_process_had_trained_all_seeds(tmp_path, four):
    parts = [train(tmp_path / name, seeds) for name, seeds in (("a", "2:4"), ("b", "1,"))]
    parts.append(train(tmp_path / "c", "0,"))
    before = [snapshot(part.path) for part in parts]
    merged = upright.merge([part.path for part in parts], tmp_path / "new" / "all")
    assert files(merged) == files(four)
    assert outcomes(merged) == outcomes(four)
    assert merged.info.config == four.info.config
    assert [snapshot(part.path) for part in parts] == before
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["all"]


def test_a_merged_run_goes_on(tmp_path, four):
    parts = [train(tmp_path / name, seeds, steps=300) for name, seeds in (("a", "2:4"), ("b", 2))]
    merged = upright.merge([part.path for part in parts], tmp_path / "all")
    assert files(upright.resume(merged.path, steps=700)) == files(four)


def test_merge_on_the_command_line(tmp_path, four, call):
    shutil.copytree(four.path, tmp_path / "a")
    train(tmp_path / "b", "7,")
    status, output, _ = call("merge", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "all")
    assert status == 0
    assert "5 of 5 seeds have a policy" in output.splitlines()[-1]
    assert Run(tmp_path / "all").seeds == [0, 1, 2, 3, 7]


@pytest.mark.parametrize(
    ("seeds", "changes", "complaint"),
    [
        ("2:6", {}, "four and .*other both have seeds 2-3"),
        (
            "9,",
            {"agent": DQN(hidden=(8,), gamma=0.9, batch_size=8, learning_starts=50)},
            "differ: gamma is 0.99 and 0.9; epsilon_decay_steps is 500 and 3000",
        ),
        ("9,", {"steps": 600}, "differ: steps is 700 and 600"),
        ("9,", {"steps": None, "episodes": 9}, "steps is 700 and not given; episodes is not given"),
        ("9,", {"runner": "hosted"}, "differ: runner is compiled and hosted"),
    ],
)
def test_what_does_not_belong_together_is_not_merged(tmp_path, four, seeds, changes, complaint):
    other = train(tmp_path / "other", seeds, **changes)
    with pytest.raises(UprightError, match=complaint):
        upright.merge([four.path, other.path], tmp_path / "all")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_merging_what_is_no_run_or_into_something_is_refused(tmp_path, four):
    with pytest.raises(UprightError, match="two or more"):
        upright.merge([four.path], tmp_path / "all")
    with pytest.raises(UprightError, match="not a run folder"):
        upright.merge([four.path, tmp_path], tmp_path / "all")
    other = train(tmp_path / "other", "9,")
    with pytest.raises(UprightError, match="other: is not empty"):
        upright.merge([four.path, other.path], other.path)
    assert Run(other.path).seeds == [9]


def test_a_run_from_before_a_setting_was_there_is_merged(tmp_path, four):
    """It had the default."""
    other = train(tmp_path / "other", "9,")
    info = json.loads((other.path / "run.json").read_text())
    del info["config"]["agent"]["tau"]
    (other.path / "run.json").write_text(json.dumps(info))
    merged = upright.merge([four.path, other.path], tmp_path / "all")
    assert merged.seeds == [0, 1, 2, 3, 9]


def test_a_run_is_joined_with_other_seeds(tmp_path, four):
    train(tmp_path / "run", "3,")
    run = train(tmp_path / "run", "0:3", join=True)
    assert files(run) == files(four)
    assert outcomes(run) == outcomes(four)


def test_two_processes_train_disjoint_seeds_of_one_run_at_once(tmp_path, four):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "upright", "train", "CartPole-v1", "--out", str(out), *WORDS]
    with subprocess.Popen([*command, "--seeds", "0:2"], stderr=subprocess.DEVNULL) as first:
        while not (out / "seeds" / "01" / "seed.json").exists():
            assert first.poll() is None
            time.sleep(0.01)
        done = subprocess.run([*command, "--seeds", "2:4", "--join"], capture_output=True)
    assert (first.returncode, done.returncode) == (0, 0), done.stderr
    assert files(Run(out)) == files(four)


@pytest.mark.parametrize(
    ("seeds", "changes", "complaint"),
    [
        ("3:5", {}, "has seed 3 already"),
        ("9,", {"agent": DQN(hidden=(8,), batch_size=8)}, "learning_starts is 50 and 500"),
        ("9,", {"steps": 900}, "steps is 700 and 900"),
    ],
)
def test_who_does_not_fit_is_not_let_in(tmp_path, four, seeds, changes, complaint):
    run = shutil.copytree(four.path, tmp_path / "run")
    before = snapshot(run)
    with pytest.raises(UprightError, match=complaint):
        train(run, seeds, join=True, **changes)
    assert snapshot(run) == before


def test_joining_needs_a_run(tmp_path, call):
    status, _, errors = call("train", "CartPole-v1", "--join", "--out", tmp_path / "none")
    assert status == 2
    assert "none: not a run folder" in errors
    status, _, errors = call("train", "CartPole-v1", "--join")
    assert status == 2
    assert "join needs the run to join; give its folder: --out" in errors
    assert not list(tmp_path.iterdir())


def test_resume_leaves_seeds_to_the_process_that_has_them(tmp_path, four):
    """A seed of an interrupted run is continued here, the others by somebody else."""
    run = train(tmp_path / "run", 4, steps=300)
    program = (
        "import sys, filelock, time\n"
        "lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(1, flush=True)\n"
        "time.sleep(60)"
    )
    lock = run.path / "seeds" / "02" / ".lock"
    with subprocess.Popen([sys.executable, "-c", program, lock], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.warns(UprightWarning, match="another process is writing seed 2; it is left"):
            upright.resume(run.path, steps=700)
        steps = [result.steps for result in Run(run.path).results]
        assert steps == [700, 700, 300, 700]
        other.kill()
    assert files(upright.resume(run.path)) == files(four)


def test_a_run_of_more_seeds_than_files_may_be_open(tmp_path):
    """A lock is an open file."""
    program = (
        "import resource, sys, test_several as t\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))\n"
        "print(t.train(sys.argv[1], 80, steps=60, evaluation_episodes=1).status)"
    )
    command = [sys.executable, "-c", program, tmp_path / "run"]
    here = Path(__file__).parent
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=120)
    assert done.stdout == "finished\n", done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_merging_into_a_folder_without_permission(tmp_path, four):
    other = train(tmp_path / "other", "9,")
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(UprightError, match="cannot be written"):
        upright.merge([four.path, other.path], tmp_path / "closed" / "all")
