"""A virtual environment for each peer, built on first use.

The peers' dependencies (torch) are none of ours, so they stay out of our environment and our lock.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

PEERS = Path(__file__).parent
VENVS = PEERS.parent / ".venvs"


def peer_python(peer: str) -> Path:
    """The Python that runs `peer`, from `<peer>-requirements.txt`; raises CalledProcessError."""
    folder = VENVS / peer
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    requirements = PEERS / f"{peer}-requirements.txt"
    # The stamp is written last and says what was installed: an environment that was interrupted,
    # or made for other requirements, is built again from nothing.
    stamp = folder / "installed.txt"
    wanted = requirements.read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"Building {folder} (once, may take minutes) ...", file=sys.stderr, flush=True)
        venv.create(folder, clear=True, with_pip=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        subprocess.run([*pip, "install", "-r", requirements], check=True, stdout=sys.stderr)
        stamp.write_text(wanted)
    return python


if __name__ == "__main__":
    print(peer_python(sys.argv[1]))
