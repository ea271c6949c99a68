"""A training from outside: the run folder, what is kept, and how it ends."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import upright
from upright import DQN, Run, UprightError, load_policy
from upright.agents import agent_from_dict
from upright.agents.presets import PRESETS
from upright.runs.folder import EPISODES, EVALUATIONS, policy_path
from upright.runs.writer import SeedWriter

TABLES = ("episodes", "evaluations", "learning")
QUICK = DQN(hidden=(16,), batch_size=16, learning_starts=100, epsilon_decay_steps=300)


def train(path, **arguments):
    defaults = {"agent": QUICK, "seeds": "3,7", "steps": 600, "evaluate_every": 250}
    return upright.train("CartPole-v1", out=path, **{**defaults, **arguments})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs") / "run")


def test_the_folder_holds_what_the_design_says(run):
    files = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    of_a_seed = {
        ".lock",
        "seed.json",
        "checkpoints/000000000000.safetensors",
        "checkpoints/000000000600.safetensors",
        "episodes.csv",
        "evaluations.csv",
        "learning.csv",
        "kept.safetensors",
        "last.safetensors",
    }
    seeds = {f"seeds/{seed}/{name}" for seed in ("03", "07") for name in of_a_seed}
    assert files == {".lock", "run.json", "best.safetensors", *seeds}
    learning = ("step", "loss", "q_mean", "epsilon", "learning_rate")
    tables = {"episodes": EPISODES, "evaluations": EVALUATIONS, "learning": learning}
    for name, columns in tables.items():
        with (run.path / "seeds" / "03" / f"{name}.csv").open() as file:
            assert tuple(next(csv.reader(file))) == columns
        assert tuple(run.table(name)) == ("seed", *columns)


def test_run_json_says_what_was_asked_and_on_what(run):
    info = json.loads((run.path / "run.json").read_text())
    config = info["config"]
    assert (config["task"], config["seeds"], config["steps"]) == ("CartPole-v1", [3, 7], 600)
    assert agent_from_dict(config["agent"]) == QUICK
    assert info["platform"]["versions"]["jax"]
    assert info["platform"]["cores"] == os.cpu_count()
    assert run.status == "finished"
    assert [result.seed for result in run.results] == [3, 7]


def test_who_trained_a_seed_is_in_its_folder(run):
    for result in run.results:
        (stint,) = result.stints
        assert (stint.at_step, stint.steps) == (0, 2 * 600)
        assert stint.training_seconds > 0


def test_a_command_is_noted_where_there_was_one(run, tmp_path, call):
    """Not the words of whatever program called: of a notebook, say."""
    assert run.info.command is None
    out = tmp_path / "run"
    words = ["train", "CartPole-v1", "--seeds", "1", "--steps", "600", "--out", str(out)]
    assert call(*words)[0] == 0
    assert Run(out).info.command == ("upright", *words)


def test_returns_are_written_in_full(tmp_path):
    """Six digits would not tell -1234.5678 from -1234.57."""
    run = upright.train(
        "PendulumDiscrete-v1", agent=QUICK, seeds=1, steps=600, out=tmp_path / "run"
    )
    path = run.path / "seeds" / "00" / "evaluations.csv"
    text = path.read_text().splitlines()[-1].split(",")[2]
    assert float(text) == run.results[0].last.mean_return
    returns = run.table("episodes")["return"]
    assert (returns.astype(np.float32) == returns.astype(str).astype(np.float32)).all()
    assert any(len(repr(value).replace(".", "")) > 8 for value in returns)


def test_episodes_add_up_to_the_steps(run):
    table = run.table("episodes")
    for seed in run.seeds:
        mine = table["seed"] == seed
        assert np.array_equal(table["step"][mine], np.cumsum(table["length"][mine]))
        assert np.array_equal(table["episode"][mine], np.arange(1, mine.sum() + 1))
        assert 500 < table["step"][mine][-1] <= 600
        assert np.array_equal(table["return"][mine], table["length"][mine])  # 1 for every step


def test_every_seed_is_evaluated_before_in_between_and_at_the_end(run):
    table = run.table("evaluations")
    for seed in run.seeds:
        assert list(table["step"][table["seed"] == seed]) == [0, 250, 500, 600]


def test_the_best_evaluation_is_kept_and_of_equal_ones_the_latest(run):
    table = run.table("evaluations")
    for seed in run.seeds:
        mine = table["seed"] == seed
        steps, means = table["step"][mine], table["mean_return"][mine]
        latest_best = steps[np.flatnonzero(means == means.max())[-1]]
        kept = run.policy(seed).provenance
        assert (kept.seed, kept.step) == (seed, latest_best)
        np.testing.assert_allclose(kept.evaluation.mean_return, means.max(), rtol=1e-5)
        last = load_policy(policy_path(run.path, seed, "last")).provenance
        assert last.step == 600
    returns = [run.policy(seed).provenance.evaluation.mean_return for seed in run.seeds]
    assert run.best().provenance.evaluation.mean_return == max(returns)


def test_the_final_evaluation_is_of_the_kept_policy_in_gymnasium(run):
    for result in run.results:
        final = result.final_evaluation
        again = upright.evaluate(run.policy(result.seed), episodes=100, seed=2026).summary()
        assert asdict(final) == again
        assert final.worst_return <= final.mean_return


def test_learning_is_logged_after_the_warm_up(run):
    table = run.table("learning")
    mine = table["seed"] == 3
    assert list(table["step"][mine]) == [250, 500, 600]
    end = QUICK.epsilon_end
    epsilon = [1 - (1 - end) * 250 / QUICK.epsilon_decay_steps, end, end]
    np.testing.assert_allclose(table["epsilon"][mine], epsilon, rtol=1e-4)
    assert np.isfinite(table["loss"]).all()


def test_the_same_seed_gives_the_same_files(run, tmp_path):
    """Beside other seeds or alone: byte for byte."""
    again = train(tmp_path / "again", seeds="7,")
    for name in ("kept.safetensors", "last.safetensors", *(f"{n}.csv" for n in TABLES)):
        file = f"seeds/07/{name}"
        assert (again.path / file).read_bytes() == (run.path / file).read_bytes()


def test_a_budget_of_episodes_is_kept_to_the_episode(tmp_path):
    run = train(tmp_path / "run", steps=None, episodes=12)
    table = run.table("episodes")
    for result in run.results:
        mine = table["seed"] == result.seed
        assert mine.sum() == result.episodes == 12
        assert table["step"][mine][-1] == result.steps
        assert result.last.step == result.steps
    assert len({result.steps for result in run.results}) == 2


def test_a_seed_whose_loss_becomes_nan_stops_and_keeps_what_it_had(tmp_path, call):
    """A learning rate beyond all measure: the weights overflow within a few steps."""
    out = tmp_path / "run"
    rate = replace(QUICK, learning_rate=1e30, learning_starts=300)
    run = train(out, agent=rate, steps=5000, evaluate_every=100)
    for result in run.results:
        assert result.state == "diverged"
        assert 300 < result.steps < 400  # in the very step, not at the end of its chunk
        assert result.kept.step <= 300
        policy = run.policy(result.seed)
        assert np.isfinite(policy.q_values(np.zeros(4))).all()
        assert result.final_evaluation.mean_return > 0
    status, output, _ = call("show", out)
    assert status == 0
    assert output.count("diverged") == 2


def test_evaluations_come_from_the_same_start_states(tmp_path):
    """Two seeds that learn next to nothing keep their return from first to last evaluation."""
    run = train(tmp_path / "run", agent=replace(QUICK, learning_rate=1e-30))
    table = run.table("evaluations")
    for result in run.results:
        assert len(set(table["mean_return"][table["seed"] == result.seed])) == 1
        assert result.kept.step == 600, "of equal evaluations the latest is kept"


def test_progress_goes_forward_to_the_end(tmp_path):
    seen = []
    run = train(tmp_path / "run", watch=seen.append)
    assert seen[0].phase == "compiling"
    training = [status for status in seen if status.phase == "training"]
    assert training[-1].steps == 2 * 600
    fractions = [status.fraction for status in training]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    played = len(run.table("evaluations")["seed"]) * run.info.config.evaluation_episodes
    assert training[-1].evaluated_episodes == played
    assert training[-1].evaluated_steps > 5 * played, "no pole falls at once"
    assert seen[-1].phase == "judging"


@pytest.mark.parametrize("after", [0.0, 1.0])
def test_ctrl_c_ends_in_order(tmp_path, after):
    """At the very beginning, while it still compiles, and in the middle of the training."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "upright", "train", "CartPole-v1", "--seeds", "3"]
    command += ["--steps", "100000000", "--out", out, "--agent.hidden", "32", "32"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        seed = (
            out / "seeds" / "02" / "kept.safetensors"
            if after
            else out / "seeds" / "02" / "learning.csv"
        )
        while not seed.exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    last = output.splitlines()[-1]
    assert last.startswith(f"interrupted: {out} holds")
    assert "3 of 3 seeds" in last
    run = Run(out)
    assert run.status == "interrupted"
    for result in run.results:
        assert result.state == "interrupted"
        assert run.policy(result.seed).provenance.seed == result.seed
        last_policy = load_policy(policy_path(out, result.seed, "last"))
        assert last_policy.provenance.step == result.steps


def test_presets_are_complete():
    for preset in PRESETS.values():
        assert (preset.steps is None) != (preset.episodes is None)
    article = PRESETS["article"]
    assert article.episodes == 3000
    assert (article.agent.gamma, article.agent.learning_rate) == (0.98, 5e-4)
    assert not article.agent.scale_observations


def test_a_folder_that_holds_a_run_is_never_overwritten(run):
    before = (run.path / "run.json").read_bytes()
    with pytest.raises(UprightError, match="already holds a run"):
        train(run.path)
    assert (run.path / "run.json").read_bytes() == before


def test_a_budget_that_ends_before_learning_is_refused(tmp_path):
    with pytest.raises(UprightError, match="steps is 100, but learning starts after 100 steps"):
        train(tmp_path / "run", steps=100)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seeds", [[1.5], ["1"], [None]])
def test_seeds_that_are_no_numbers_are_refused(tmp_path, seeds):
    with pytest.raises(UprightError, match="is not a whole number"):
        train(tmp_path / "run", seeds=seeds)
    assert not (tmp_path / "run").exists()


def test_settings_too_large_for_the_memory_leave_nothing_behind(tmp_path):
    large = replace(QUICK, replay_size=2_000_000_000)
    with pytest.raises(UprightError, match="out of memory"):
        train(tmp_path / "run", agent=large)
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(UprightError, match="out of memory"):
        train(tmp_path / "mine", agent=large)
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"], "the user's own folder stays"
    assert not list((tmp_path / "mine").iterdir())


def test_settings_too_large_are_refused_where_jax_was_used_before(tmp_path):
    """It computes in another thread then, and fails there."""
    program = (
        "import jax.numpy as jnp; jnp.ones(3).sum()\n"
        "import test_training as t, dataclasses, pathlib, sys\n"
        "large = dataclasses.replace(t.QUICK, replay_size=2_000_000_000)\n"
        "t.train(pathlib.Path(sys.argv[1]), agent=large)"
    )
    command = [sys.executable, "-c", program, tmp_path / "run"]
    here = os.path.dirname(__file__)
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=60)
    assert "UprightError: out of memory" in done.stderr
    assert not (tmp_path / "run").exists()


def test_an_interrupted_final_evaluation_is_no_complete_one(tmp_path, call):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "upright", "train", "CartPole-v1", "--seeds", "40"]
    command += ["--steps", "600", "--agent.hidden", "16", "--out", out]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        next(line for line in process.stderr if line.startswith("judging"))
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    run = Run(out)
    judged = sum(result.final_evaluation is not None for result in run.results)
    assert judged < 40
    assert f"evaluated: {judged} of 40 policies" in output
    assert output.splitlines()[-1].startswith("interrupted: ")
    _, table, _ = call("runs", tmp_path)
    row = next(line for line in table.splitlines() if "interrupted" in line)
    assert row.split()[-2:] == ["-", "-"]


@pytest.mark.parametrize("delay", [0.05, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5])
def test_ctrl_c_at_the_start_is_heard(tmp_path, delay):
    """While Python, JAX and the package are being imported, and shortly after."""
    out = tmp_path / "run"
    program = "import sys; print(1, flush=True); from upright.cli import main; main()"
    arguments = ["train", "CartPole-v1", "--seeds", "3", "--steps", "100000000", "--out", out]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program, *arguments], **pipes) as process:
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors


def test_numpy_seeds_are_seeds(tmp_path):
    assert train(tmp_path / "run", seeds=np.arange(3, 5)).seeds == [3, 4]


def test_what_was_changed_of_a_preset_is_said(run):
    assert run.preset.startswith("default, hidden (16,), batch_size 16")


def test_the_best_policy_is_one_of_the_kept_ones(run):
    best = (run.path / "best.safetensors").read_bytes()
    assert best in [policy_path(run.path, seed).read_bytes() for seed in run.seeds]


def test_a_full_disk_stops_the_training_with_a_usable_folder(tmp_path, monkeypatch):
    """From some moment on nothing can be written any more."""
    rows = 0
    append = SeedWriter.append

    def append_until_full(self, name, new_rows):
        nonlocal rows
        rows += 1
        if rows >= 20:
            monkeypatch.setattr(self, "table_path", lambda name: Path("/dev/full"))
        append(self, name, new_rows)

    monkeypatch.setattr(SeedWriter, "append", append_until_full)
    with pytest.raises(UprightError, match=r"cannot be written \(No space left on device\)"):
        train(tmp_path / "run", steps=5000)
    stopped = Run(tmp_path / "run")
    assert stopped.status == "failed"
    assert "No space left" in stopped.results[0].error
    assert stopped.best().provenance.seed in stopped.seeds


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "upright",
        "train",
        "CartPole-v1",
        "--seeds",
        "40",
    ]  # so many that ending in order takes a while
    command += ["--steps", "100000000", "--out", out]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        best = out / "best.safetensors"
        while not best.exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "upright: interrupted"
    assert "Traceback" not in errors
    assert Run(out).status == "interrupted"
    assert Run(out).best().provenance.agent == "DQN"
