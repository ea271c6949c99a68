"""A sample of tests/reliability/kills.py: killed, failing or interrupted in any call."""

import subprocess
import sys
from pathlib import Path


def test_after_mischief_in_any_call_one_command_leads_to_the_same_bytes():
    script = Path(__file__).parent / "reliability" / "kills.py"
    command = [sys.executable, script, "--count", "12", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "tried 12, bad 0"
