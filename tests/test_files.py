"""The files of a run: who wrote them, what is wrong with them, and whom that concerns."""

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from walks import files, outcomes, snapshot

import upright
from upright import DQN, Run, UprightError
from upright.errors import UprightWarning
from upright.runs import find_runs
from upright.runs.held import is_held

QUICK = DQN(hidden=(4,), batch_size=4, replay_size=100, learning_starts=20, epsilon_decay_steps=90)


def train(out, **arguments):
    options = {"agent": QUICK, "seeds": 2, "steps": 110, "evaluate_every": 60}
    options |= {"evaluation_episodes": 2, "checkpoint_every": 40, **arguments}
    return upright.train("CartPole-v1", out=out, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that is finished, and one that went further."""
    place = tmp_path_factory.mktemp("whole")
    return {steps: train(place / str(steps), steps=steps) for steps in (110, 170)}


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole[110].path, tmp_path / "run")


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name", ["kept.safetensors", "last.safetensors", "seed.json", "episodes.csv", "checkpoints"]
)
def test_a_resume_that_cannot_write_a_file_changes_nothing(run, name):
    """Not even of another seed, or of a file that it would have written before."""
    place = run / "seeds" / "01" / name
    if place.is_dir():
        place.rename(run.parent / "away")
        place.write_text("")
    else:
        place.unlink()
        place.mkdir()
    before = snapshot(run)
    with pytest.raises(UprightError, match=rf"{name}: is not a f\w+; move it away"):
        upright.resume(run, steps=170)
    assert snapshot(run) == before


@pytest.mark.parametrize("damage", ["bit", "zeros", "doubled"])
@pytest.mark.parametrize("name", ["episodes", "evaluations", "learning"])
def test_a_table_that_is_not_as_its_checkpoint_says_is_named(run, name, damage):
    path = run / "seeds" / "00" / f"{name}.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "bit":
        flip(path, 2)
    elif damage == "zeros":
        path.write_bytes(bytes(len(lines[0])) + b"".join(lines[1:]))
    else:
        path.write_bytes(b"".join([lines[0], *lines]))
    other = run / "seeds" / "01" / f"{name}.csv"
    flip(other, 0)
    before = snapshot(run)
    with pytest.raises(UprightError, match=rf"seeds/00/{name}.csv: not what its checkpoint says"):
        upright.resume(run, steps=170)
    assert snapshot(run) == before


def test_a_seed_that_cannot_go_on_begins_again_when_its_folder_is_removed(run, whole):
    """The way out that the message names."""
    for path in run.glob("seeds/01/checkpoints/*"):
        flip(path, 1000)
    with pytest.warns(UprightWarning, match="no usable checkpoint.* remove .*seeds/01 and resume"):
        upright.resume(run, steps=170)
    shutil.rmtree(run / "seeds" / "01")
    again = upright.resume(run)
    assert files(again) == files(whole[170])
    assert outcomes(again) == outcomes(whole[170])


def test_a_damaged_seed_hides_nothing_and_goes_on_from_its_checkpoint(run, whole, call):
    flip(run / "seeds" / "01" / "seed.json", 5)
    damaged = Run(run)
    assert damaged.status == "failed"
    assert [result.state for result in damaged.results] == ["finished", "failed"]
    assert call("show", run)[0] == call("plot", run)[0] == 0
    assert "seeds/01: seed.json is damaged" in call("show", run)[1].replace("\n", "")
    shutil.rmtree(run / "figures")
    with pytest.warns(UprightWarning, match=r"seed.json is damaged .*; seed 1 goes on"):
        again = upright.resume(run)
    assert files(again) == files(whole[110])
    assert outcomes(again) == outcomes(whole[110])


def damage_budget(path):
    info = json.loads(path.read_text())
    info["config"]["steps"] = None
    path.write_text(json.dumps(info))


def make_fifo(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [lambda path: flip(path, 5), damage_budget, make_fifo])
def test_a_damaged_run_hides_only_itself(run, damage, call):
    shutil.copytree(run, run.parent / "other")
    damage(run / "run.json")
    runs, complaints = find_runs(run.parent)
    assert [found.path.name for found in runs] == ["other"]
    assert len(complaints) == 1
    status, output, _ = call("runs", run.parent)
    assert status == 0
    assert "other" in output
    assert "left out: " in output
    for command in ("show", "plot", "resume"):
        status, _, errors = call(command, run)
        assert status == 2
        assert "run.json" in errors.splitlines()[-1]


@pytest.mark.parametrize("row", [b"1,2\r\n3,4,5.0,6,0\r\n", b"a,b,c,d,e\r\n", b"\xff\r\n"])
def test_a_row_that_is_none_is_named(run, row):
    path = run / "seeds" / "00" / "episodes.csv"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0] + row)
    with pytest.raises(
        UprightError, match=r"episodes.csv: (line 2 is damaged|is damaged; it is not text)"
    ):
        upright.plot(run)


def test_a_table_of_which_not_even_the_first_line_is_whole_is_none(run):
    (run / "seeds" / "00" / "learning.csv").write_text("step,lo")
    assert set(Run(run).table("learning")["seed"]) == {1}


def test_a_plot_does_not_leave_the_run_by_a_link(run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (run / "figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UprightError, match="figures: is a symbolic link"):
        upright.plot(run)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_who_looks_at_a_run_disturbs_nobody(tmp_path):
    """Every reader sees it running, and whoever begins meanwhile is not refused."""
    seen, done = set(), threading.Event()

    def look():
        while not done.is_set():
            if (tmp_path / "run" / "seeds" / "01" / "seed.json").exists():
                seen.add(Run(tmp_path / "run").status)
                is_held(tmp_path / "run" / "seeds" / "01" / ".lock")

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        train(tmp_path / "run")
        upright.resume(tmp_path / "run", steps=170)
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert "running" in seen
    assert Run(tmp_path / "run").status == "finished"


def test_trainings_that_begin_in_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from upright.training import train as training

    names = [Path("runs/a"), Path("runs/b")]
    monkeypatch.setattr(training, "new_folders", lambda task, preset: iter(names))
    assert [train(None).path for _ in range(2)] == names


def test_a_beginning_that_was_killed_begins_anew_and_another_training_does_not(tmp_path, whole):
    begun = tmp_path / "begun"
    (begun / "seeds" / "00").mkdir(parents=True)
    shutil.copy(whole[110].path / "run.json", begun)
    (begun / "seeds" / "00" / "episodes.csv").write_text("epi")
    before = snapshot(begun)
    with pytest.raises(UprightError, match="already holds a run"):
        train(begun, steps=170)
    assert snapshot(begun) == before
    assert files(train(begun)) == files(whole[110])


def test_ctrl_c_leaves_no_other_checkpoints(tmp_path, whole):
    """As two processes: budgets that end between two checkpoints are interruptions, too."""
    train(tmp_path / "run", steps=45)
    for steps in (60, 85, 119):
        upright.resume(tmp_path / "run", steps=steps)
    upright.resume(tmp_path / "run", steps=170)
    found, expected = (
        sorted(str(path.relative_to(run)) for path in run.rglob("*.safetensors"))
        for run in (tmp_path / "run", whole[170].path)
    )
    assert found == expected


def test_a_budget_below_what_was_done_is_refused(run):
    """A larger one is a wish; a smaller one is damage."""
    path = run / "seeds" / "00" / "seed.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": "interrupted"}))
    text = (run / "run.json").read_text()
    assert '"steps": 110' in text
    (run / "run.json").write_text(text.replace('"steps": 110', '"steps": 100'))
    before = snapshot(run)
    with pytest.raises(UprightError, match="steps is 100, and seed 0 has done 110; was"):
        upright.resume(run)
    assert snapshot(run) == before
