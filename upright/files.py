"""Writing files that are there whole or not at all."""

import os
import tempfile
from pathlib import Path

from upright.errors import UprightError


def write_atomically(path: Path, content: bytes) -> None:
    """Temporary file, fsync, rename: a power cut leaves the old file or the new one."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UprightError(f"{path.parent}: cannot be written ({error.strerror})") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes a file private; a result is as readable as any other file of its owner.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError):
            raise UprightError(f"{path}: cannot be written ({error.strerror})") from None
        raise
