"""The folder in which a command is typed may be a stranger's: what lies there is not run."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import upright
from upright.bridge import flat
from upright.tasks import catalogue

PLANTED = "from pathlib import Path\nPath('ran').write_text(__name__)\n"
NEEDS = {"LunarLander-v3": "Box2D", "Ant-v5": "mujoco", "Hopper-v4": "mujoco_py"}


@pytest.fixture
def folder(untrained, tmp_path, monkeypatch):
    """Policies for tasks whose dependencies are not installed, and files with their names."""
    policy, _ = untrained
    for task, module in NEEDS.items():
        other = replace(policy, spec=replace(policy.spec, task=task))
        other.save(tmp_path / f"{task}.safetensors")
        (tmp_path / f"{module}.py").write_text(PLANTED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(catalogue, "_typed", set())
    known = {*sys.modules}
    yield tmp_path
    for module in {*NEEDS.values(), "my_module", "my_part"} - known:
        sys.modules.pop(module, None)


@pytest.mark.parametrize("task", NEEDS)
def test_a_policy_file_runs_nothing_that_lies_in_the_folder(folder, call, task):
    policy = f"{task}.safetensors"
    for command in (
        ["evaluate", policy, "--episodes", "1"],
        ["evaluate", policy, "--episodes", "1", "--task", task],
        ["play", policy, "--gif", "a.gif"],
        ["show", policy],
        ["train", task, "--seeds", "1"],  # typed, but without a module
    ):
        status, _, errors = call(*command)
        assert status == (0 if command[0] == "show" else 2), errors
        assert not (folder / "ran").exists(), command


def test_the_folder_is_open_only_while_a_typed_module_is_imported(folder):
    (folder / "my_module.py").write_text("import my_part\n")
    (folder / "my_part.py").write_text("SEEN = True\n")
    before = [*sys.path]
    assert catalogue.load("my_module:LunarLander-v3") == "LunarLander-v3"
    assert sys.modules["my_part"].SEEN
    assert sys.path == before
    with pytest.raises(upright.UprightError):
        flat.make_env("Ant-v5")
    assert not (folder / "ran").exists()
    with pytest.raises(upright.UprightError):
        flat.make_env("LunarLander-v3")
    assert (folder / "ran").read_text() == "Box2D", "what a typed module imports late"


def test_the_present_folder_stands_in_for_no_module(folder):
    """Not for those of a command that starts either."""
    for module in ("numpy", "tyro", "rich", "json", "gymnasium"):
        (folder / f"{module}.py").write_text(PLANTED)
    root = Path(upright.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "upright", "evaluate", "LunarLander-v3.safetensors"],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("upright: task 'LunarLander-v3': ")
    assert done.stderr.count("\n") == 1
    assert not (folder / "ran").exists()
