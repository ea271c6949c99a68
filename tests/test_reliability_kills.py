"""A sample of tests/reliability/kills.py: killed, failing or interrupted in any call."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "which",
    [
        ["--count", "12", "--seed", "1"],
        # After its last files nobody comes again to clear up.
        ["--only", "train-compiled/kill", "--first", "-12"],
    ],
)
def test_after_mischief_in_any_call_one_command_leads_to_the_same_bytes(which):
    script = Path(__file__).parent / "reliability" / "kills.py"
    done = subprocess.run([sys.executable, script, *which], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "tried 12, bad 0"
