"""Whatever ended a run: going on ends as if it had never been interrupted, bit for bit."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from upright.training.fleet import cores
from upright.training.lanes import Lanes
from walks import Walk, files, states

import upright
from upright import DQN, Run, UprightError, tensors
from upright.cli import console
from upright.errors import UprightWarning
from upright.training import checkpoints, session

HERE = Path(__file__).parent
TASKS = {"fused": "CartPole-v1", "stepwise": "Walk-v0"}
QUICK = DQN(hidden=(8,), batch_size=8, replay_size=600, warmup_steps=50, epsilon_decay_steps=500)


def train(driver, out, **arguments):
    defaults = {"seeds": 3, "steps": 700, "evaluate_every": 250, "checkpoint_every": 300}
    defaults |= {"agent": QUICK, "evaluation_episodes": 2, "driver": driver}
    if "episodes" in arguments:
        defaults.pop("steps")
    return upright.train(TASKS[driver], out=out, **{**defaults, **arguments})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """By driver: a run that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return {driver: train(driver, folder / driver) for driver in TASKS}


@pytest.fixture
def ctrl_c(monkeypatch):
    """A watcher that presses Ctrl-C when all seeds together have done so many steps."""
    monkeypatch.setattr(session, "_WATCH_SECONDS", 0)

    def at(steps):
        once = threading.Lock()  # a second time would be another wish; threads of work call, too

        def watch(status):
            if (
                status.phase == "training"
                and status.steps >= steps
                and once.acquire(blocking=False)
            ):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        return watch

    return at


def snapshot(folder):
    """Every file of a folder."""
    return {
        path: path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.parametrize("driver", TASKS)
def test_twenty_kills_change_nothing(tmp_path, driver):
    """In the middle of writing, and at any other moment; see lives.py."""
    kills = {"whole": 0, "killed": 20}
    command = [sys.executable, "lives.py"]
    processes = [
        subprocess.Popen(
            [*command, tmp_path / name, driver, str(n)], cwd=HERE, stdout=subprocess.PIPE, text=True
        )
        for name, n in kills.items()
    ]
    assert [process.communicate(timeout=150)[0] for process in processes] == ["1 0\n", "21 0\n"]
    found, expected = (
        {name: hashlib.sha256(content).hexdigest() for name, content in files(run).items()}
        for run in (Run(tmp_path / "killed"), Run(tmp_path / "whole"))
    )
    assert found == expected
    assert len(found) == 5 + 3 + 1
    names = {path.name for path in (tmp_path / "whole").rglob("*")}
    assert {path.name for path in (tmp_path / "killed").rglob("*")} == names, "leftovers"


@pytest.mark.parametrize("driver", TASKS)
def test_ctrl_c_again_and_again_changes_nothing(tmp_path, driver, whole, ctrl_c):
    run = train(driver, tmp_path / "run", watch=ctrl_c(1))
    for steps in (700, 1300, 1900):
        assert run.status == "interrupted"
        assert "interrupted" in {result["state"] for result in run.results}
        run = upright.resume(run.path, watch=ctrl_c(steps))
    run = upright.resume(run.path)
    assert run.status == "finished"
    assert len(run.info["resumed"]) == 4
    assert files(run) == files(whole[driver])
    assert run.results == whole[driver].results


@pytest.mark.skipif(cores() < 2, reason="needs two crews")
def test_the_order_of_rows_does_not_depend_on_who_is_cut(tmp_path, whole, ctrl_c, monkeypatch):
    """Ctrl-C while one crew has come to its row and another, a slow one before it, has not."""
    step = Lanes.step

    def slow_step(lanes, actions):
        time.sleep(0.002 if 0 in lanes._seeds else 0)
        return step(lanes, actions)

    with monkeypatch.context() as patch:
        patch.setattr(Lanes, "step", slow_step)
        run = train("stepwise", tmp_path / "run", watch=ctrl_c(450))
    assert run.status == "interrupted"
    steps = [result["steps"] for result in run.results]
    assert steps[0] < steps[-1]
    run = upright.resume(run.path)
    assert files(run) == files(whole["stepwise"])


def test_a_run_without_checkpoints_is_left_alone(tmp_path, whole):
    """Somebody made room on the disk."""
    run = shutil.copytree(whole["fused"].path, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    before = snapshot(run)
    with pytest.raises(UprightError, match="has no checkpoint to go on from"):
        upright.resume(run, steps=5000)
    assert snapshot(run) == before


def test_changed_settings_are_refused(tmp_path, whole):
    run = shutil.copytree(whole["fused"].path, tmp_path / "run")
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace('"gamma": 0.99', '"gamma": 0.5'))
    before = snapshot(run)
    with pytest.raises(UprightError, match=r"run\.json: other settings than those of"):
        upright.resume(run, steps=5000)
    assert snapshot(run) == before


def test_who_is_killed_while_it_is_judged_goes_on(tmp_path, whole):
    run = shutil.copytree(whole["fused"].path, tmp_path / "run")
    info = json.loads((run / "run.json").read_text())
    for result in info["results"]:
        result.pop("judgement")
    (run / "run.json").write_text(json.dumps({**info, "status": "running"}))
    again = upright.resume(run)
    assert again.status == "finished"
    assert again.results == whole["fused"].results
    assert files(again) == files(whole["fused"])


def test_a_link_in_a_run_folder_is_not_written_through(tmp_path, whole):
    run = shutil.copytree(whole["fused"].path, tmp_path / "run")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (run / "learning.csv").unlink()
    (run / "learning.csv").symlink_to(victim)
    with pytest.raises(UprightError, match=r"learning\.csv: is a link"):
        upright.resume(run, steps=5000)
    assert victim.read_text() == "precious"


def test_an_episode_in_progress_and_its_measured_scaling_go_on(tmp_path, whole):
    short = train("stepwise", tmp_path / "short", steps=233)
    playing = states(short)
    assert any(0 < len(state.actions) < 20 for state in playing.values())
    for state in playing.values():
        assert state.agent.moments.observed == 233
        assert state.agent.moments.mean[1] > 100
    longer = upright.resume(short.path, steps=700)
    assert files(longer) == files(whole["stepwise"])
    lengths = longer.table("episodes")["length"]
    assert lengths.max() <= 20, "an episode keeps its time limit"


@pytest.mark.parametrize("driver", TASKS)
def test_ctrl_c_on_the_command_line_is_exit_status_130(
    tmp_path, driver, whole, ctrl_c, call, monkeypatch
):
    out = tmp_path / "run"
    train(driver, out, steps=100)
    for steps in (600, 1200):
        press = ctrl_c(steps)
        monkeypatch.setattr(console.Training, "update", lambda _, status, p=press: p(status))
        status, output, _ = call("resume", out, "--steps", "700")
        assert status == 130
        assert output.splitlines()[-1].startswith(f"interrupted: {out} holds")
        assert Run(out).status == "interrupted"
    monkeypatch.setattr(console.Training, "update", lambda _, status: None)
    status, output, _ = call("resume", out)
    assert status == 0
    assert files(Run(out)) == files(whole[driver])


@pytest.mark.parametrize("driver", TASKS)
@pytest.mark.parametrize("before", [120, 250, 600])
def test_more_steps_are_as_if_asked_for_from_the_beginning(tmp_path, driver, whole, before):
    """Before the first row, at an evaluation, at a checkpoint."""
    run = train(driver, tmp_path / "run", steps=before)
    run = upright.resume(run.path, steps=700)
    assert files(run) == files(whole[driver])
    assert run.results == whole[driver].results
    assert run.info["config"] == whole[driver].info["config"]


@pytest.mark.parametrize("driver", TASKS)
def test_more_episodes_are_as_if_asked_for_from_the_beginning(tmp_path, driver):
    """The seeds have then done different numbers of steps, so their rows alternate otherwise."""
    settings = {"evaluate_every": 50, "checkpoint_every": 20}
    expected = train(driver, tmp_path / "expected", episodes=21, **settings)
    run = train(driver, tmp_path / "run", episodes=8, **settings)
    steps = {result["steps"] for result in run.results}
    assert max(steps) - min(steps) > 20, "another checkpoint is due for one than for the other"
    run = upright.resume(run.path, episodes=21)
    assert run.results == expected.results
    assert files(run, sort=True) == files(expected, sort=True)


@pytest.mark.parametrize(
    ("budget", "complaint"),
    [
        ({}, "is finished; --steps or --episodes gives it more to do"),
        ({"steps": 700}, "is finished"),
        ({"steps": 699}, "steps is 699; the run has 700 already"),
        ({"episodes": 5}, "the run has no budget of episodes"),
        ({"steps": 800, "task": "Acrobot-v1"}, "its task is"),
        ({"steps": 2**31}, "below 2.31"),
    ],
)
@pytest.mark.parametrize("driver", TASKS)
def test_a_finished_run_that_cannot_go_on_stays_as_it_is(whole, driver, budget, complaint):
    before = snapshot(whole[driver].path)
    with pytest.raises(UprightError, match=complaint):
        upright.resume(whole[driver].path, **budget)
    assert snapshot(whole[driver].path) == before


def cut(content):
    return content[:-100]


def flip(content):
    middle = len(content) * 3 // 4
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def empty(content):
    return b""


def newest(run):
    return max(run.path.glob("checkpoints/*.safetensors"))


@pytest.mark.parametrize("damage", [cut, flip, empty])
@pytest.mark.parametrize("driver", TASKS)
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(
    tmp_path, driver, whole, ctrl_c, damage
):
    run = train(driver, tmp_path / "run", watch=ctrl_c(1900))
    path = newest(run)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UprightWarning, match=f"{path.name}: .*an older checkpoint is used"):
        run = upright.resume(run.path)
    assert files(run) == files(whole[driver])
    assert len(run.info["warnings"]) == 1


@pytest.mark.parametrize("driver", TASKS)
def test_without_a_usable_checkpoint_nothing_is_changed(tmp_path, driver, ctrl_c):
    run = train(driver, tmp_path / "run", watch=ctrl_c(1500))
    for path in run.path.glob("checkpoints/*"):
        path.write_bytes(flip(path.read_bytes()))
    before = snapshot(run.path)
    with pytest.raises(UprightError, match=r"no usable checkpoint: .*damaged.*; .*damaged"):
        upright.resume(run.path)
    assert snapshot(run.path) == before


@pytest.mark.parametrize("name", ["episodes", "evaluations"])
def test_a_table_that_is_shorter_than_its_checkpoint_says_is_refused(tmp_path, name, ctrl_c):
    run = train("stepwise", tmp_path / "run", watch=ctrl_c(1900))
    path = run.path / f"{name}.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:2]))
    before = snapshot(run.path)
    with pytest.raises(UprightError, match=rf"{name}.csv: shorter than its checkpoint says"):
        upright.resume(run.path)
    assert snapshot(run.path) == before


@pytest.mark.parametrize("driver", TASKS)
def test_how_often_checkpoints_are_written_changes_nothing(tmp_path, driver, whole, ctrl_c):
    out, kept = tmp_path / "run", set()

    def watch(status):
        kept.add(len(list(out.glob("checkpoints/*"))))

    ctrl_c(0)  # looks at every result
    run = train(driver, out, checkpoint_every=33, watch=watch)
    assert max(kept) == 3
    assert len(list(out.glob("checkpoints/*"))) == 3
    assert files(run) == files(whole[driver])


FULL = """
import resource, signal, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
sys.path.append(sys.argv.pop(1))
from upright.cli import main
main()
"""


@pytest.mark.parametrize("limit", [20_000, 40_000])
@pytest.mark.parametrize("driver", TASKS)
def test_a_full_disk_leaves_a_run_that_can_go_on(tmp_path, driver, whole, limit, monkeypatch):
    """No file can be longer than the limit: the checkpoints grow beyond it with the replay."""
    out = tmp_path / "run"
    task = {"fused": "CartPole-v1", "stepwise": "walks:Walk-v0"}[driver]
    command = [sys.executable, "-c", FULL, str(limit), str(HERE), "train", task]
    command += ["--out", out, "--seeds", "3", "--steps", "700", "--driver", driver]
    command += ["--evaluate-every", "250", "--evaluation-episodes", "2"]
    command += ["--checkpoint-every", "300", "--agent.hidden", "8", "--agent.batch-size", "8"]
    command += ["--agent.replay-size", "600", "--agent.warmup-steps", "50"]
    command += ["--agent.epsilon-decay-steps", "500"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    *_, line = done.stderr.splitlines()
    assert line.endswith(".safetensors: cannot be written (File too large)")
    run = Run(out)
    assert run.status == "failed"
    assert run.best().provenance.seed in run.seeds
    monkeypatch.syspath_prepend(HERE)
    run = upright.resume(out, task=task)
    assert files(run).keys() == files(whole[driver]).keys()
    for name, content in files(run).items():
        if driver == "fused" or name.endswith(".csv"):  # a policy names its task, module included
            assert content == files(whole[driver])[name], name


def test_a_run_has_one_writer(tmp_path, call):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "upright", "train", "CartPole-v1", "--seeds", "1"]
    command += ["--steps", "5000000", "--out", out, "--agent.hidden", "8"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            while not (out / "policies" / "best.safetensors").exists():
                assert process.poll() is None
                time.sleep(0.01)
            status, output, errors = call("resume", out)
            assert (status, output) == (2, "")
            line = errors.splitlines()[-1]
            assert line == f"upright: {out}: another process is writing this run"
            status, output, errors = call("train", "CartPole-v1", "--seeds", "1", "--out", out)
            assert (status, output) == (2, "")
            assert errors.splitlines()[-1].startswith(f"upright: {out}: already holds a run")
            assert process.poll() is None
        finally:
            process.kill()
    assert Run(out).status == "running"


def test_two_resumes_at_once_are_one(tmp_path, whole, ctrl_c):
    """Also when the second one comes from the same process."""
    run = train("fused", tmp_path / "run", watch=ctrl_c(600))
    refused = []

    def watch(status):
        if status.phase == "training" and not refused:
            with pytest.raises(UprightError, match="another process is writing this run"):
                upright.resume(run.path)
            refused.append(True)

    assert files(upright.resume(run.path, watch=watch)) == files(whole["fused"])
    assert refused


def test_a_run_of_another_format_is_refused_with_its_version(tmp_path, ctrl_c):
    run = train("fused", tmp_path / "run", watch=ctrl_c(600))
    info = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**info, "version": 99}))
    before = snapshot(run.path)
    with pytest.raises(UprightError, match="run format 99; this version reads"):
        upright.resume(run.path)
    assert snapshot(run.path) == before


def test_a_checkpoint_of_another_format_is_refused_with_its_version(tmp_path, ctrl_c):
    run = train("fused", tmp_path / "run", watch=ctrl_c(600))
    for path in run.path.glob("checkpoints/*"):
        kind, version = checkpoints.FORMAT, checkpoints.VERSION
        named, header = tensors.decode(path.read_bytes(), kind, version)
        for name in ("format", "version", "tensors_sha256"):
            del header[name]
        path.write_bytes(tensors.encode(named, kind, 99, header))
    before = snapshot(run.path)
    with pytest.raises(UprightError, match="checkpoint format 99; this version of upright reads 1"):
        upright.resume(run.path)
    assert snapshot(run.path) == before


def test_checkpoints_of_other_settings_are_refused(tmp_path, ctrl_c):
    run = train("fused", tmp_path / "run", watch=ctrl_c(600))
    text = (run.path / "run.json").read_text()
    info = json.loads(text)
    info["config"]["agent"]["hidden"] = [9]
    (run.path / "run.json").write_text(json.dumps(info))
    with pytest.raises(UprightError, match=r"does not fit the settings in run\.json"):
        upright.resume(run.path)
    info = json.loads(text)
    info["config"]["seeds"] = [0, 1, 2, 9]
    (run.path / "run.json").write_text(json.dumps(info))
    with pytest.raises(UprightError, match=r"of other seeds than run\.json says"):
        upright.resume(run.path)


class Fickle(Walk):
    """Its noise follows from no seed, and it falls over soon."""

    chance = np.random.default_rng(1)

    def step(self, action):
        self.np_random = Fickle.chance
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward, abs(self.position) > 1.5, truncated, info


def test_an_environment_that_is_not_deterministic_goes_on_with_a_new_episode(
    tmp_path, ctrl_c, monkeypatch
):
    monkeypatch.setitem(gym.registry, "Walk-v0", gym.envs.registration.EnvSpec("Walk-v0", Fickle))
    run = train("stepwise", tmp_path / "run", seeds=4, watch=ctrl_c(1900))
    assert max(len(state.actions) for state in states(run).values()) > 1
    with pytest.warns(UprightWarning, match="Walk-v0 is not deterministic") as warned:
        run = upright.resume(run.path)
    assert len(warned) == 1
    assert run.status == "finished"
    assert str(warned[0].message) == run.info["warnings"][-1]
    for seed in run.seeds:
        table = run.table("episodes")
        mine = table["seed"] == seed
        assert np.array_equal(table["episode"][mine], np.arange(1, mine.sum() + 1))
        assert table["step"][mine][-1] <= 700
        assert run.policy(seed).provenance.seed == seed


def test_what_is_no_run_cannot_go_on(tmp_path, call):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "none", tmp_path / "empty"):
        status, _, errors = call("resume", path)
        assert status == 2
        assert "not a run folder" in errors.splitlines()[-1]
    assert not list((tmp_path / "empty").iterdir())
    assert not (tmp_path / "none").exists()


def test_a_folder_whose_process_was_killed_at_its_very_beginning_is_good_for_another(tmp_path):
    """After the lock, and after run.json."""
    (tmp_path / "run" / ".lock").parent.mkdir()
    (tmp_path / "run" / ".lock").touch()
    run = train("fused", tmp_path / "run")
    assert run.status == "finished"
    begun = tmp_path / "begun"
    begun.mkdir()
    info = {**run.info, "status": "running", "results": []}
    (begun / "run.json").write_text(json.dumps(info))
    assert files(upright.resume(begun)) == files(run)
