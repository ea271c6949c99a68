"""The commands, as typed: what they print, and one clear line for bad input."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from upright.cli import COMMANDS, physics

TRAIN = ["train", "CartPole-v1", "--seeds", "2", "--steps", "800", "--agent.hidden", "16"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "first"
    command = [sys.executable, "-m", "upright", *TRAIN, "--out", out]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "training" in process.stderr
    return out, process.stdout


def test_train_ends_with_the_table_and_where_to_look(run):
    path, output = run
    for text in ("seed", "kept at step", "mean return", "worst return", f" play {path}"):
        assert text in output
    assert output.splitlines()[-1].startswith(f"finished: {path} holds run.json")


@pytest.mark.parametrize("kind", ["run", "policy"])
def test_evaluate_in_words_and_in_json(run, call, kind):
    target = run[0] if kind == "run" else run[0] / "seeds" / "01" / "kept.safetensors"
    status, output, _ = call("evaluate", target, "--episodes", 5, "--json")
    assert status == 0
    results = json.loads(output)
    assert list(results) == (["0", "1"] if kind == "run" else [str(target)])
    for result in results.values():
        assert len(result["returns"]) == 5
        assert result["mean_return"] == np.mean(result["returns"])
        assert result["worst_return"] == min(result["returns"])
    status, output, _ = call("evaluate", target, "--episodes", 5)
    assert status == 0
    assert "worst return" in output


def test_the_start_states_follow_the_seed(run, call):
    target = run[0] / "best.safetensors"

    def returns(seed):
        _, output, _ = call("evaluate", target, "--episodes", 20, "--seed", seed, "--json")
        return next(iter(json.loads(output).values()))["returns"]

    assert returns(1) == returns(1)
    assert returns(1) != returns(2)


def test_an_episode_can_be_repeated_alone_in_gymnasium(run):
    import gymnasium as gym

    import upright

    policy = upright.load_policy(run[0] / "best.safetensors")
    evaluation = upright.evaluate(policy, episodes=3)
    env = gym.make("CartPole-v1")
    for seed, expected in zip(evaluation.reset_seeds, evaluation.returns, strict=True):
        observation, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(policy.choose(observation))
            total, over = total + reward, terminated or truncated
        assert total == expected


@pytest.mark.parametrize(("ending", "magic"), [("gif", b"GIF89a"), ("mp4", b"ftyp")])
def test_play_writes_a_video(run, call, tmp_path, ending, magic):
    video = tmp_path / "new" / f"episode.{ending}"
    status, output, _ = call("play", run[0], f"--{ending}", video)
    assert status == 0
    assert f"wrote {video}" in output
    assert magic in video.read_bytes()[:12]


def test_a_gif_shows_the_whole_episode_in_its_own_time(run, call, tmp_path):
    from PIL import Image

    _, output, _ = call("play", run[0], "--gif", tmp_path / "a.gif")
    seconds = float(output.split(" steps, ")[1].split(" s")[0])
    with Image.open(tmp_path / "a.gif") as image:
        shown = 0.0
        for frame in range(image.n_frames):
            image.seek(frame)
            shown += image.info["duration"] / 1000
    assert abs(shown - seconds) < 0.1


def test_plot_writes_png_and_svg(run, call):
    status, output, _ = call("plot", run[0])
    assert status == 0
    figures = run[0] / "figures"
    assert (figures / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (figures / "curve.svg").read_text()
    assert output == f"wrote {figures}/curve.png\nwrote {figures}/curve.svg\n"


def test_a_damaged_run_does_not_hide_the_others(run, call):
    damaged = run[0].parent / "damaged"
    damaged.mkdir()
    (damaged / "run.json").write_text("{")
    status, output, _ = call("runs", run[0].parent)
    assert status == 0
    assert "first" in output
    assert f"left out: {damaged}: run.json is damaged" in output


def test_plot_of_one_seed(run, call):
    status, output, _ = call("plot", run[0], "--seed", 1)
    assert status == 0
    assert "figures/curve-seed-01.png" in output


def test_runs_and_show(run, call):
    status, output, _ = call("runs", run[0].parent)
    assert status == 0
    assert "first" in output
    assert "CartPole-v1" in output
    status, output, _ = call("show", run[0])
    assert status == 0
    assert "learning_starts" in output
    status, output, _ = call("show", run[0] / "best.safetensors")
    assert status == 0
    assert "pole angular velocity" in output
    assert "force of -10, 10 N, every 0.02 s" in output
    assert "trained by  DQN, seed" in output
    assert "rad/s" in output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_text(call, command):
    status, output, _ = call(command, "--help")
    assert status == 0
    assert f"usage: upright {command}" in output


def test_help_shows_the_settings_of_the_preset(call):
    _, default, _ = call("train", "--help")
    _, article, _ = call("train", "--preset", "article", "--help")
    assert "(default: 0.99)" in default
    assert "(default: 0.98)" in article
    assert "[steps]" in default


def test_the_overview_imports_nothing_heavy():
    program = (
        "import sys; from upright import cli; cli.run(['--help']);"
        "heavy = {'jax', 'matplotlib', 'gymnasium', 'scipy', 'rich', 'tyro'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def bad_inputs():
    """Arguments, and what the one line must say."""
    return [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["train", "Cartpole-v1"], "unknown task 'Cartpole-v1'; did you mean CartPole-v1?"),
        (["train", "Walker"], "unknown task 'Walker'; `upright tasks` lists what is there"),
        (["train"], "upright: TASK is missing"),
        (["train", "A-v0", "B-v0"], "'B-v0' is one value too many"),
        (
            ["train", "CartPole-v1", "--preset", "artcle"],
            "unknown preset 'artcle'; did you mean article",
        ),
        (["train", "CartPole-v1", "--seeds", "some"], "seeds 'some'"),
        (["train", "CartPole-v1", "--seeds", "1,1"], "seed 1 is given more than once"),
        (["train", "CartPole-v1", "--steps", "0"], "steps is 0"),
        (["train", "CartPole-v1", "--steps", "-5"], "steps is -5"),
        (["train", "CartPole-v1", "--steps", "500"], "learning starts after 500 steps"),
        (["train", "CartPole-v1", "--seeds", "-5"], "seeds '-5'"),
        (["train", "CartPole-v1", "--steps", "abc"], "abc"),
        (["train", "CartPole-v1", "--stps", "5"], "no option --stps; did you mean --steps?"),
        (["train", "CartPole-v1", "--gama=1"], "no option --gama; did you mean --agent.gamma?"),
        (["train", "CartPole-v1", "--preset"], "--preset needs a value"),
        (["train", "CartPole-v1", "--physics"], "--physics needs a value"),
        (
            ["train", "CartPole-v1", "--agent.hidden", "--seeds", "1"],
            "--agent.hidden needs a value",
        ),
        (["train", "CartPole-v1", "--agent.hidden", "8,8"], "whole numbers with spaces between"),
        (["train", "CartPole-v1", "--seeds", "3:1"], "the first must be below the second"),
        (
            ["train", "CartPole-v1", "--render", "rgb"],
            "--render is 'rgb'; it must be one of 'human' ",
        ),
        (["train", "CartPole-v1", "--episodes", "0"], "episodes is 0"),
        (["train", "CartPole-v1", "--evaluate-every", "0"], "evaluate_every is 0"),
        (["train", "CartPole-v1", "--steps", "1e4"], "--steps is '1e4'; it must be a whole number"),
        (["train", "CartPole-v1", "--steps", "5", "--episodes", "5"], "both steps and episodes"),
        (["train", "CartPole-v1", "--agent.batch-size", "-1"], "batch_size is -1"),
        (["train", "CartPole-v1", "--agent.hidden", "0"], "hidden is (0,)"),
        (["train", "CartPole-v1", "--agent.loss", "l1"], "l1"),
        (["train", "CartPole-v1", "--physics.half-lenght", "1"], "did you mean half_length?"),
        (
            ["train", "CartPole-v1", "--physics.half-length", "0"],
            "half_length is 0.0; it must be a",
        ),
        (["train", "CartPole-v1", "--physics.gravity", "moon"], "'gravity=moon' is not NAME=VALUE"),
        (["train", "CartPole-v1", "--physics.gravity"], "'gravity=' is not NAME=VALUE"),
        (["train", "CartPole-v1", "--randomise", "gravity=1"], "'gravity=1' is not NAME=LOW:HIGH"),
        (
            ["train", "CartPole-v1", "--randomise", "gravity=2:1"],
            "gravity is from 2 to 1; the first must",
        ),
        (["train", "Taxi-v4", "--physics.gravity", "1"], "native tasks alone, and 'Taxi-v4' is"),
        (["train", "nowhere:Arm-v0"], "no module 'nowhere'; is it installed, or in this folder?"),
        (["tasks", "CartPole-v2"], "unknown task 'CartPole-v2'; did you mean CartPole-v1"),
        (["evaluate", "nowhere"], "nowhere: cannot be read"),
        (["evaluate", "."], "not a run folder"),
        (["play", "nowhere.safetensors"], "nowhere.safetensors: cannot be read"),
        (["plot", "nowhere"], "nowhere: not a run folder"),
        (["runs", "nowhere"], "nowhere: no such folder"),
        (["show", "nowhere"], "nowhere: cannot be read"),
    ]


@pytest.mark.parametrize(("arguments", "complaint"), bad_inputs())
def test_bad_input_is_one_line_and_status_2(call, tmp_path, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    status, output, errors = call(*arguments)
    assert status == 2
    assert output == ""
    assert errors.startswith("upright: ")
    assert errors.count("\n") == 1
    assert complaint in errors
    assert "---" not in errors, "a rule of the box that is made one line"
    assert not list(tmp_path.iterdir()), "something was written"


def test_the_spellings_of_physics_mean_the_same():
    dotted = ["A-v0", "--physics.half-length", "1.0", "--seeds", "2", "--physics.torques=-1,0,1"]
    *rest, option, length, torques = physics.gather(dotted)
    assert [*rest, option] == ["A-v0", "--seeds", "2", "--physics"]
    assert physics.values([length, torques]) == {
        "half_length": 1.0,
        "torques": (-1.0, 0.0, 1.0),
    }
    mixed = ["--physics", "a=1", "--seeds", "2", "--physics.b", "-2"]
    assert physics.gather(mixed) == ["--physics", "b=-2", "a=1", "--seeds", "2"]
    assert physics.ranges(["a=-1:2"]) == {"a": (-1.0, 2.0)}


def bad_targets(run, tmp_path):
    """Commands on an existing run or policy that cannot be carried out."""
    policy = run / "best.safetensors"
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(policy.read_bytes()[:-7])
    (tmp_path / "file").write_text("")
    return [
        (["evaluate", broken], "broken.safetensors: cut off"),
        (["evaluate", policy, "--episodes", "0"], "episodes is 0"),
        (["evaluate", policy, "--seed", "-1"], "seed is -1"),
        (["evaluate", policy, "--task", "Acrobot-v1"], "the policy is for CartPole-v1"),
        (["play", policy, "--render", "human"], "no display for a window"),
        (["play", policy], "no display for a window"),
        (["play", policy, "--gif", tmp_path / "a.gif", "--seed", "-1"], "seed is -1"),
        (["play", policy, "--gif", tmp_path / "a.png"], "--gif needs a name that ends in .gif"),
        (["play", policy, "--gif", tmp_path / "file" / "a.gif"], "cannot be written"),
        (["play", policy, "--render", "human", "--gif", "a.gif"], "choose one"),
        (["plot", run, "--out", tmp_path / "file" / "figures"], "cannot be written"),
        (["plot", run, "--seed", "5"], "has no seed 5; it has 0, 1"),
        ([*TRAIN, "--out", run], "already holds a run"),
        ([*TRAIN, "--out", tmp_path], "is not empty"),
        ([*TRAIN, "--out", tmp_path / "file" / "run"], "cannot be written"),
    ]


def test_bad_targets_are_one_line_and_status_2(run, call, tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    for arguments, complaint in bad_targets(run[0], tmp_path):
        status, output, errors = call(*arguments)
        assert (status, output) == (2, ""), arguments
        assert errors.startswith("upright: "), arguments
        assert errors.count("\n") == 1, errors
        assert complaint in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.safetensors", "file"]


def test_a_policy_for_another_task_is_refused(run, call, tmp_path):
    """By name, and where the name is right by the shapes."""
    from dataclasses import replace

    import upright

    policy = upright.load_policy(run[0] / "best.safetensors")
    other = replace(policy, spec=replace(policy.spec, task="Acrobot-v1"))
    other.save(tmp_path / "other.safetensors")
    status, _, errors = call("evaluate", tmp_path / "other.safetensors")
    assert status == 2
    assert (
        "the policy has 4 observations and 2 actions; Acrobot-v1 has 6 observations and 3 actions"
        in errors
    )


def test_a_reader_that_leaves_is_no_error(run):
    command = f"{sys.executable} -m upright show {run[0]} | head -1"
    process = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert process.stderr == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(call, tmp_path):
    tmp_path.chmod(0o500)
    status, _, errors = call(*TRAIN, "--out", tmp_path / "run")
    assert status == 2
    assert "cannot be written" in errors


def test_a_display_that_is_not_there_is_noticed(run, call, monkeypatch):
    """The variable names one, but no server answers: SDL would draw where nobody can see it."""
    for name in ("WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":99")
    status, output, errors = call("play", run[0], "--render", "human")
    assert (status, output) == (2, "")
    assert errors == (
        "upright: no display for a window; write a file instead: --gif FILE or --mp4 FILE\n"
    )


def test_functions_take_paths_as_the_commands_do(run, tmp_path):
    import upright

    policy = run[0] / "best.safetensors"
    assert len(upright.evaluate(str(policy), episodes=2).returns) == 2
    upright.play(str(policy), files=[str(tmp_path / "a.gif")])
    assert upright.plot(str(run[0]), tmp_path)
    assert "weights" not in repr(upright.load_policy(policy))
    assert str(run[0]) in repr(upright.Run(run[0]))
