"""What reaches the terminal: of any width, closed or full; whatever is in a stranger's names."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import warnings
from dataclasses import replace

import pytest
from rich.console import Console

import upright
from upright import cli
from upright.cli import console
from upright.errors import UprightError, UprightWarning, visible
from upright.runs import Run

UPRIGHT = [sys.executable, "-m", "upright"]
HOSTILE = "a\x1b[2Jb\nc\u202ed\udc80e\x07f\u2028g"
SHOWN = r"a\x1b[2Jb\nc\u202ed\udc80e\x07f\u2028g"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "first"
    command = [*UPRIGHT, "train", "CartPole-v1", "--seeds", "2", "--steps", "800"]
    command += ["--agent.hidden", "16", "--physics.half-length", "1.0", "--out", out]
    # Neither progress nor results have a place to go to.
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=full)
    assert done.returncode == 2
    return out


def on_a_terminal(columns, *arguments):
    """What a command line prints on a terminal of that width, without its styles."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    environment["TERM"] = "xterm"
    process = subprocess.Popen(
        [*UPRIGHT, *map(str, arguments)], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    printed = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # its other end was closed
            break
        printed += part
    os.close(ours)
    assert process.wait() == 0
    text = printed.decode().replace("\r", "")
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@pytest.mark.parametrize("columns", [45, 80])
@pytest.mark.parametrize("command", ["tasks", "show", "runs"])
def test_on_a_narrow_terminal_no_word_is_broken_and_nothing_left_out(run, columns, command):
    target = {"tasks": [], "show": [run / "best.safetensors"], "runs": [run.parent]}[command]
    wide = on_a_terminal(400, command, *target)
    narrow = on_a_terminal(columns, command, *target)
    assert max(len(line.rstrip()) for line in narrow.splitlines()) <= columns
    words = re.compile(r"[^\s─]+")
    assert set(words.findall(wide)) == set(words.findall(narrow))


def test_in_a_pipe_no_line_is_filled_up(run, call):
    for command in ["show", run], ["show", run / "best.safetensors"], ["tasks"]:
        _, output, _ = call(*command)
        assert not [line for line in output.splitlines() if line != line.rstrip()]


def test_changed_physics_are_in_the_table_of_runs(run, call):
    _, output, _ = call("runs", run.parent)
    assert "half_length 1" in output


@pytest.mark.parametrize("closed", ["1", "0,1,2"])
def test_a_closed_stream_is_no_error(run, closed):
    descriptors = "".join(f" {number}>&-" for number in closed.split(","))
    line = f'"{sys.executable}" -m upright show "{run}"{descriptors}'
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_behind_standard_output_is_one_line(run):
    with open("/dev/full", "w") as full:
        command = [*UPRIGHT, "show", run]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "upright: input or output: No space left on device\n"


def test_a_training_ends_in_order_though_nobody_can_read_of_it(run, call):
    _, output, _ = call("show", run)
    assert "finished: " in output


@pytest.mark.parametrize(
    "arguments",
    [[HOSTILE], ["train", HOSTILE], ["show", HOSTILE], ["train", "CartPole-v1", f"--{HOSTILE}"]],
)
def test_control_characters_of_an_argument_are_made_visible(call, arguments):
    status, output, errors = call(*arguments)
    assert (status, output) == (2, "")
    assert errors.count("\n") == 1
    assert errors.rstrip("\n").isprintable()
    assert r"\x1b[2Jb" in errors


def test_control_characters_of_a_file_are_made_visible(untrained, call, tmp_path):
    policy, _ = untrained
    hostile = HOSTILE.replace("\udc80", "")
    channel = policy.spec.observation.channels[0]
    observation = replace(
        policy.spec.observation,
        channels=(replace(channel, name=hostile), *policy.spec.observation.channels[1:]),
    )
    spec = replace(policy.spec, task=hostile, observation=observation)
    replace(policy, spec=spec).save(tmp_path / "policy.safetensors")
    status, output, _ = call("show", tmp_path / "policy.safetensors")
    assert status == 0
    assert all(line.isprintable() for line in output.split("\n"))
    assert output.count(SHOWN.replace(r"\udc80", "")) == 2


def test_a_warning_of_others_is_one_line(monkeypatch, capsys):
    text = "\x1b[33mtwo\nlines\x07\x1b[0m"
    monkeypatch.setattr(cli, "run", lambda _: warnings.warn(text, stacklevel=1))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        cli.main()
    errors = capsys.readouterr().err
    assert re.fullmatch(r"upright: warning: two\\nlines\\x07 \(UserWarning, .*\)\n", errors)


def test_control_characters_are_made_visible_in_python_too():
    for kind in (UprightError, UprightWarning):
        assert str(kind(HOSTILE)) == visible(HOSTILE)


def test_what_is_longer_than_a_screen_is_cut_and_says_so(call):
    assert visible("x" * 2000) == "x" * 2000
    assert visible("x" * 12345) == "x" * 2000 + " ... (10,345 characters more)"
    _, _, errors = call("show", "y" * 100_000)
    assert len(errors) < 2_200
    assert int(re.search(r" \(([\d,]+) characters more\)$", errors)[1].replace(",", "")) > 98_000
    assert errors.count("\n") == 1


def test_variables_of_jax_that_do_not_fit_are_one_line(tmp_path):
    command = [*UPRIGHT, "doctor", "CartPole-v1", "--seeds", "1"]
    for name, value, said in (
        ("JAX_PLATFORMS", "nonsense", "JAX_PLATFORMS"),
        ("JAX_PLATFORM_NAME", "cuda", "JAX_PLATFORM_NAME is 'cuda'"),
        ("JAX_ENABLE_X64", "perhaps", "JAX_ENABLE_X64"),
        ("JAX_NUM_CPU_DEVICES", "x", "jax_num_cpu_devices"),
    ):
        environment = {**os.environ, name: value}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith("upright: JAX ")
        assert done.stderr.count("\n") == 1
        assert said in done.stderr
    environment = {**os.environ, "JAX_TRANSFER_GUARD": "disallow"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    said = r"upright: JAX's setting jax_transfer_guard is disallow; .* JAX_TRANSFER_GUARD, .*\n"
    assert (done.returncode, bool(re.fullmatch(said, done.stderr))) == (2, True)


def test_an_evaluation_shows_its_episodes_its_steps_and_the_time_left(run, monkeypatch):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(console, "_progress", terminal)
    monkeypatch.setattr(console, "_BAR_SECONDS", 0.0)
    policies = Run(run).policies().values()
    with console.Evaluating(3 * len(policies)) as bar:
        played = [upright.evaluate(p, episodes=3, observer=bar).lengths.sum() for p in policies]
    last = [line for line in screen.getvalue().splitlines() if "episodes" in line][-1]
    count = 3 * len(policies)
    assert f"{count}/{count} episodes  {sum(played):,} steps" in last
    assert "left" in last
