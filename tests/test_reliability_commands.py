"""A sample of the random command lines; all of them: python tests/reliability/commands.py."""

import importlib.util
from pathlib import Path

import pytest

_FILE = Path(__file__).parent / "reliability" / "commands.py"


@pytest.fixture(scope="module")
def commands():
    spec = importlib.util.spec_from_file_location("reliability_commands", _FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_random_command_lines_end_in_order(commands, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands.prepare(tmp_path)
    bad = {index: one for index in range(60) if (one := commands.one(1, index))[1]}
    assert not bad


@pytest.mark.parametrize(
    "end",
    [
        ("trace", "", "Traceback"),
        (139, "", ""),
        (2, "", ""),
        (2, "", "upright: a\nb\n"),
        (0, "", "upright: a\n"),
        (0, "a\x1b[2J", ""),
    ],
)
def test_the_script_would_notice(commands, tmp_path, monkeypatch, end):
    monkeypatch.chdir(tmp_path)
    assert commands.complaint(*end)
    assert not commands.complaint(2, "", "upright: a\n")
