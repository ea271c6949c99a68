"""A sample of the hostile files; all of them: `python tests/reliability/files.py`.

In processes of their own, as a user has it: nobody else checks types or catches warnings there.
"""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def run(program, *arguments):
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=FOLDER, capture_output=True, text=True)


def test_hostile_files_are_refused_in_one_line_or_load():
    program = "import sys; from reliability import files; sys.exit(files.main())"
    done = run(program, "--count", "100", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("tried 600, bad 0\n")


def test_the_script_finds_what_a_lenient_reader_lets_through():
    program = (
        "import json, sys; from reliability import files; from upright import plain\n"
        "plain.parse = json.loads; sys.exit(files.main())"
    )
    done = run(program, "--count", "100", "--only", "run.json")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "bad: --only run.json --first " in done.stdout
