"""Whatever ended a run: going on ends as if it had never been interrupted, bit for bit."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from walks import Walk, ended, files, outcomes, reseal, snapshot, states

import upright
from upright import DQN, Run, UprightError
from upright.cli import console
from upright.errors import UprightWarning
from upright.training import progress

HERE = Path(__file__).parent
resume = ended(upright.resume)
TASKS = {"compiled": "CartPole-v1", "hosted": "Walk-v0"}
QUICK = DQN(hidden=(8,), batch_size=8, replay_size=600, learning_starts=50, epsilon_decay_steps=500)


def train(runner, out, **arguments):
    defaults = {"seeds": 3, "steps": 700, "evaluate_every": 250, "checkpoint_every": 300}
    defaults |= {"agent": QUICK, "evaluation_episodes": 2, "runner": runner}
    if "episodes" in arguments:
        defaults.pop("steps")
    return ended(upright.train)(TASKS[runner], out=out, **{**defaults, **arguments})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """By runner: a run that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return {runner: train(runner, folder / runner) for runner in TASKS}


@pytest.fixture
def ctrl_c(monkeypatch):
    """A watcher that presses Ctrl-C when all seeds together have done so many steps."""
    monkeypatch.setattr(progress, "_WATCH_SECONDS", 0)

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


@pytest.mark.parametrize("runner", TASKS)
def test_twenty_kills_change_nothing(tmp_path, runner):
    """In the middle of writing, and at any other moment; see lives.py."""
    kills = {"whole": 0, "killed": 20}
    command = [sys.executable, "lives.py"]
    processes = [
        subprocess.Popen(
            [*command, tmp_path / name, runner, str(n)], cwd=HERE, stdout=subprocess.PIPE, text=True
        )
        for name, n in kills.items()
    ]
    assert [process.communicate(timeout=150)[0] for process in processes] == ["1 0\n", "21 0\n"]
    found, expected = (
        {name: hashlib.sha256(content).hexdigest() for name, content in files(run).items()}
        for run in (Run(tmp_path / "killed"), Run(tmp_path / "whole"))
    )
    assert found == expected
    assert len(found) == 1 + 2 * (2 + 3 + 1), "best; of each seed policies, tables, a checkpoint"
    names = {path.name for path in (tmp_path / "whole").rglob("*")}
    assert {path.name for path in (tmp_path / "killed").rglob("*")} == names, "leftovers"


@pytest.mark.parametrize("runner", TASKS)
def test_ctrl_c_again_and_again_changes_nothing(tmp_path, runner, whole, ctrl_c):
    run = train(runner, tmp_path / "run", watch=ctrl_c(1))
    for steps in (700, 1300, 1900):
        assert run.status == "interrupted"
        assert "interrupted" in {result.state for result in run.results}
        run = resume(run.path, watch=ctrl_c(steps))
    run = resume(run.path)
    assert run.status == "finished"
    assert max(len(result.stints) for result in run.results) == 5
    assert files(run) == files(whole[runner])
    assert outcomes(run) == outcomes(whole[runner])


@pytest.mark.parametrize("runner", TASKS)
@pytest.mark.parametrize("steps", [303, 304, 305])
def test_who_diverges_does_so_in_the_same_step_after_ctrl_c(tmp_path, runner, ctrl_c, steps):
    """Also where Ctrl-C comes in that very step."""
    agent = replace(QUICK, learning_rate=1e30, learning_starts=301)
    options = {"agent": agent, "seeds": 1}
    whole = train(runner, tmp_path / "whole", **options)
    assert whole.results[0].state == "diverged"
    assert 301 < whole.results[0].steps < 310
    run = train(runner, tmp_path / "run", watch=ctrl_c(steps), **options)
    if run.status == "interrupted":
        run = resume(run.path)
    assert files(run) == files(whole)
    assert outcomes(run) == outcomes(whole)


def test_a_run_without_checkpoints_is_left_alone(tmp_path, whole):
    """Somebody made room on the disk."""
    run = shutil.copytree(whole["compiled"].path, tmp_path / "run")
    for folder in run.glob("seeds/*/checkpoints"):
        shutil.rmtree(folder)
    before = snapshot(run)
    with pytest.raises(UprightError, match="has no checkpoint to go on from"):
        resume(run, steps=5000)
    assert snapshot(run) == before


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"gamma": 0.99', '"gamma": 0.5', "gamma is 0.5 and 0.99 in the checkpoint of seed 0"),
        ('"hidden": [8]', '"hidden": [9]', "hidden is .9. and .8. in the checkpoint"),
        ('"evaluate_every": 250', '"evaluate_every": 50', "evaluate_every is 50 and 250"),
    ],
)
def test_changed_settings_are_refused_by_name_with_both_values(
    tmp_path, whole, old, new, complaint
):
    run = shutil.copytree(whole["compiled"].path, tmp_path / "run")
    info = json.dumps(json.loads((run / "run.json").read_text()))
    assert old in info
    (run / "run.json").write_text(info.replace(old, new))
    before = snapshot(run)
    with pytest.raises(UprightError, match=complaint):
        resume(run, steps=5000)
    assert snapshot(run) == before


def test_a_run_from_before_a_setting_was_there_goes_on(tmp_path, whole, ctrl_c):
    """It has the default then, which is how the agent was before."""
    run = train("compiled", tmp_path / "run", watch=ctrl_c(600)).path
    text = (run / "run.json").read_text()
    info = json.loads(text)
    del info["config"]["agent"]["max_gradient_norm"]
    (run / "run.json").write_text(json.dumps(info))
    for path in run.glob("seeds/*/checkpoints/*"):
        reseal(path, lambda header, _: header["counters"]["settings"]["agent"].pop("tau"))
    assert files(resume(run)) == files(whole["compiled"])


def test_who_is_killed_in_its_final_evaluation_goes_on(tmp_path, whole):
    run = shutil.copytree(whole["compiled"].path, tmp_path / "run")
    for path in run.glob("seeds/*/seed.json"):
        info = json.loads(path.read_text())
        path.write_text(json.dumps({**info, "state": "running", "final_evaluation": None}))
    again = resume(run)
    assert again.status == "finished"
    assert outcomes(again) == outcomes(whole["compiled"])
    assert files(again) == files(whole["compiled"])


@pytest.mark.parametrize("name", ["seeds/01/learning.csv", "seeds/01/checkpoints", "seeds/01"])
def test_a_link_in_a_run_folder_is_not_written_through(tmp_path, whole, name):
    run = shutil.copytree(whole["compiled"].path, tmp_path / "run")
    victim = tmp_path / "victim"
    (run / name).rename(victim)
    (run / name).symlink_to(victim)
    before = snapshot(victim) if victim.is_dir() else victim.read_bytes()
    with pytest.raises(UprightError, match=rf"{name}: is a symbolic link; runs with links inside"):
        resume(run, steps=5000)
    assert (snapshot(victim) if victim.is_dir() else victim.read_bytes()) == before


def test_an_episode_in_progress_and_its_measured_scaling_go_on(tmp_path, whole):
    short = train("hosted", tmp_path / "short", steps=233)
    playing = states(short)
    assert any(0 < len(state.history) < 20 for state in playing.values())
    for state in playing.values():
        assert state.agent.moments.observed == 233
        assert state.agent.moments.mean[1] > 100
    longer = resume(short.path, steps=700)
    assert files(longer) == files(whole["hosted"])
    lengths = longer.table("episodes")["length"]
    assert lengths.max() <= 20, "an episode keeps its time limit"


@pytest.mark.parametrize("runner", TASKS)
def test_ctrl_c_on_the_command_line_is_exit_status_130(
    tmp_path, runner, whole, ctrl_c, call, monkeypatch
):
    out = tmp_path / "run"
    train(runner, out, steps=100)
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
    assert files(Run(out)) == files(whole[runner])


@pytest.mark.parametrize("runner", TASKS)
@pytest.mark.parametrize("before", [120, 250, 600])
def test_more_steps_are_as_if_asked_for_from_the_beginning(tmp_path, runner, whole, before):
    """Before the first row, at an evaluation, at a checkpoint."""
    run = train(runner, tmp_path / "run", steps=before)
    run = resume(run.path, steps=700)
    assert files(run) == files(whole[runner])
    assert outcomes(run) == outcomes(whole[runner])
    assert run.info.config == whole[runner].info.config


@pytest.mark.parametrize("runner", TASKS)
def test_more_episodes_are_as_if_asked_for_from_the_beginning(tmp_path, runner):
    """The seeds have then done different numbers of steps."""
    settings = {"evaluate_every": 50, "checkpoint_every": 20}
    expected = train(runner, tmp_path / "expected", episodes=21, **settings)
    run = train(runner, tmp_path / "run", episodes=8, **settings)
    steps = {result.steps for result in run.results}
    assert max(steps) - min(steps) > 20, "another checkpoint is due for one than for the other"
    run = resume(run.path, episodes=21)
    assert outcomes(run) == outcomes(expected)
    assert files(run) == files(expected)


@pytest.mark.parametrize(
    ("budget", "complaint"),
    [
        ({}, "already finished; give a larger budget: steps"),
        ({"steps": 700}, "already finished"),
        ({"steps": 699}, "steps is 699; the run has 700 already"),
        ({"episodes": 5}, "this run's budget is in steps; use steps"),
        ({"steps": 800, "task": "Acrobot-v1"}, "its task is"),
        ({"steps": 2**31}, "below 2.31"),
    ],
)
@pytest.mark.parametrize("runner", TASKS)
def test_a_finished_run_that_cannot_go_on_stays_as_it_is(whole, runner, budget, complaint):
    before = snapshot(whole[runner].path)
    with pytest.raises(UprightError, match=complaint):
        resume(whole[runner].path, **budget)
    assert snapshot(whole[runner].path) == before


def cut(content):
    return content[:-100]


def flip(content):
    middle = len(content) * 3 // 4
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def empty(content):
    return b""


def checkpoints(run, seed):
    """Newest first."""
    return sorted((run.path / "seeds" / f"{seed:02d}" / "checkpoints").iterdir(), reverse=True)


def seed_files(run, seed):
    return {name: content for name, content in files(run).items() if f"seeds/{seed:02d}" in name}


@pytest.mark.parametrize("damage", [cut, flip, empty])
@pytest.mark.parametrize("runner", TASKS)
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(
    tmp_path, runner, whole, ctrl_c, damage
):
    run = train(runner, tmp_path / "run", watch=ctrl_c(1900))
    path = checkpoints(run, 1)[0]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UprightWarning, match=f"{path.name}: .*an older checkpoint is used"):
        run = resume(run.path)
    assert files(run) == files(whole[runner])
    assert len(run.warnings) == len(run.results[1].warnings) == 1


@pytest.mark.parametrize("runner", TASKS)
def test_damaged_checkpoints_cost_one_seed_and_nothing_of_it_changes(
    tmp_path, runner, whole, ctrl_c
):
    run = train(runner, tmp_path / "run", watch=ctrl_c(1500))
    for path in checkpoints(run, 1):
        path.write_bytes(flip(path.read_bytes()))
    before = snapshot(run.path / "seeds" / "01")
    with pytest.warns(UprightWarning, match=r"seed 1 cannot go on: no usable checkpoint: .*damage"):
        run = resume(run.path)
    for seed in (0, 2):
        assert seed_files(run, seed) == seed_files(whole[runner], seed)
    assert [result.state for result in run.results] == ["finished", "failed", "finished"]
    assert "no usable checkpoint" in run.results[1].error
    after = snapshot(run.path / "seeds" / "01")
    assert {path for path in after if after[path] != before.get(path)} == {
        run.path / "seeds" / "01" / "seed.json"
    }


@pytest.mark.parametrize("runner", TASKS)
def test_without_any_usable_checkpoint_nothing_is_changed(tmp_path, runner, ctrl_c):
    run = train(runner, tmp_path / "run", watch=ctrl_c(1500))
    for path in run.path.glob("seeds/*/checkpoints/*"):
        path.write_bytes(flip(path.read_bytes()))
    before = snapshot(run.path)
    with pytest.raises(UprightError, match=r"no usable checkpoint: .*damaged.*; .*damaged"):
        resume(run.path)
    assert snapshot(run.path) == before


@pytest.mark.parametrize("name", ["episodes", "evaluations"])
def test_a_table_that_is_shorter_than_its_checkpoint_says_is_refused(tmp_path, name, ctrl_c):
    run = train("hosted", tmp_path / "run", seeds=1, watch=ctrl_c(600))
    path = run.path / "seeds" / "00" / f"{name}.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:2]))
    before = snapshot(run.path)
    with pytest.raises(UprightError, match=rf"{name}.csv: shorter than its checkpoint says"):
        resume(run.path)
    assert snapshot(run.path) == before


@pytest.mark.parametrize("runner", TASKS)
def test_how_often_checkpoints_are_written_changes_nothing(tmp_path, runner, whole, ctrl_c):
    out, kept = tmp_path / "run", set()

    def watch(status):
        kept.add(len(list(out.glob("seeds/01/checkpoints/*.safetensors"))))

    ctrl_c(0)  # looks at every result
    run = train(runner, out, checkpoint_every=33, watch=watch)
    assert len(checkpoints(run, 1)) == 3
    assert max(kept) <= 3 + 1, "the oldest is there until the new one is whole"
    assert files(run) == files(whole[runner])


FULL = """
import resource, signal, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
sys.path.append(sys.argv.pop(1))
from upright.cli import main
main()
"""


@pytest.mark.parametrize("limit", [15_000, 25_000])
@pytest.mark.parametrize("runner", TASKS)
def test_a_full_disk_leaves_a_run_that_can_go_on(tmp_path, runner, whole, limit, monkeypatch):
    """No file can be longer than the limit: the checkpoints grow beyond it with the replay."""
    out = tmp_path / "run"
    task = {"compiled": "CartPole-v1", "hosted": "walks:Walk-v0"}[runner]
    command = [sys.executable, "-c", FULL, str(limit), str(HERE), "train", task]
    command += ["--out", out, "--seeds", "3", "--steps", "700", "--runner", runner]
    command += ["--evaluate-every", "250", "--evaluation-episodes", "2"]
    command += ["--checkpoint-every", "300", "--agent.hidden", "8", "--agent.batch-size", "8"]
    command += ["--agent.replay-size", "600", "--agent.learning-starts", "50"]
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
    run = resume(out, task=task)
    assert files(run).keys() == files(whole[runner]).keys()
    for name, content in files(run).items():
        if runner == "compiled" or name.endswith(
            ".csv"
        ):  # a policy names its task, module included
            assert content == files(whole[runner])[name], name


def test_a_run_has_one_writer(tmp_path, call):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "upright", "train", "CartPole-v1", "--seeds", "1"]
    command += ["--steps", "5000000", "--out", out, "--agent.hidden", "8"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            while not (out / "best.safetensors").exists():
                assert process.poll() is None
                time.sleep(0.01)
            status, output, errors = call("resume", out)
            assert (status, output) == (2, "")
            line = errors.splitlines()[-1]
            assert (
                line
                == f"upright: {out}: another process is writing seed 0; nothing is left to do here"
            )
            status, output, errors = call("train", "CartPole-v1", "--seeds", "1", "--out", out)
            assert (status, output) == (2, "")
            assert errors.splitlines()[-1].startswith(f"upright: {out}: already holds a run")
            assert process.poll() is None
            assert Run(out).status == "running"
        finally:
            process.kill()
    assert Run(out).status == "interrupted"


def test_two_resumes_at_once_are_one(tmp_path, whole, ctrl_c):
    """Also when the second one comes from the same process."""
    run = train("compiled", tmp_path / "run", watch=ctrl_c(600))
    refused = []

    def watch(status):
        if status.phase == "training" and not refused:
            with pytest.raises(
                UprightError,
                match="another process is writing seeds 0-2; nothing is left to do here",
            ):
                resume(run.path)
            refused.append(True)

    assert files(resume(run.path, watch=watch)) == files(whole["compiled"])
    assert refused


def test_a_run_of_another_format_is_refused_with_its_version(tmp_path, ctrl_c):
    run = train("compiled", tmp_path / "run", watch=ctrl_c(600))
    info = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**info, "version": 99}))
    before = snapshot(run.path)
    with pytest.raises(UprightError, match="run format 99; this version of upright reads 3"):
        resume(run.path)
    assert snapshot(run.path) == before


def test_a_checkpoint_of_another_format_is_refused_with_its_version(tmp_path, ctrl_c):
    run = train("compiled", tmp_path / "run", watch=ctrl_c(600))
    reseal(checkpoints(run, 1)[0], lambda header, _: header.update(version=99))
    before = snapshot(run.path)
    with pytest.raises(UprightError, match="checkpoint format 99; this version of upright reads 3"):
        resume(run.path)
    assert snapshot(run.path) == before


def test_a_seed_in_the_folder_of_another_is_refused(tmp_path, ctrl_c):
    run = train("compiled", tmp_path / "run", seeds=1, watch=ctrl_c(100))
    (run.path / "seeds" / "00").rename(run.path / "seeds" / "05")
    text = (run.path / "run.json").read_text()
    info = json.loads(text)
    info["config"]["seeds"] = [5]
    (run.path / "run.json").write_text(json.dumps(info))
    with pytest.raises(UprightError, match="seeds/05: holds seed 0; was it renamed"):
        resume(run.path)


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
    run = train("hosted", tmp_path / "run", seeds=4, watch=ctrl_c(1900))
    assert max(len(state.history) for state in states(run).values()) > 1
    with pytest.warns(UprightWarning, match="Walk-v0 is not deterministic") as warned:
        run = resume(run.path)
    assert len(warned) == 1
    assert run.status == "finished"
    assert str(warned[0].message) in run.warnings
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
    """After the lock, within run.json, and after it."""
    (tmp_path / "run" / ".lock").parent.mkdir()
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / ".run.json.0123abcd").write_text("{")
    run = train("compiled", tmp_path / "run")
    assert run.status == "finished"
    assert not (tmp_path / "run" / ".run.json.0123abcd").exists()
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(run.path / "run.json", begun)
    assert Run(begun).status == "interrupted"
    assert files(resume(begun)) == files(run)
