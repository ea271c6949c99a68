"""A sample of the random command lines; all of them: python tests/reliability/commands.py."""

import pytest
from reliability import commands


def test_random_command_lines_end_in_order(tmp_path, monkeypatch):
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
def test_the_script_would_notice(tmp_path, monkeypatch, end):
    monkeypatch.chdir(tmp_path)
    assert commands.complaint(*end)
    assert not commands.complaint(2, "", "upright: a\n")
