"""Writing files that are there whole or not at all."""

import contextlib
import os
import re
import secrets
import shutil
from pathlib import Path

from upright.errors import UprightError


def reason(error: OSError | ValueError) -> str:
    """Why a file cannot be used; of several that could not be copied, the first one.

    Python has a ValueError for a null byte in a name.
    """
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        return str(error.args[0][0][2]).partition(": ")[0]
    return getattr(error, "strerror", None) or str(error)


def write_atomically(path: Path, content: bytes) -> None:
    """Temporary file, fsync, rename: a power cut leaves the old file or the new one.

    Raises UprightError if the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError | ValueError):
            raise unwritable(path, error) from None
        raise


def remove_unfinished(folder: Path) -> None:
    """What `write_atomically` left there when its process was killed; only while nobody writes."""
    for path in filter(is_unfinished, folder.glob(".*")):
        with contextlib.suppress(OSError):
            path.unlink()


def make_folder(path: Path) -> None:
    """With those above it; raises UprightError if that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError | ValueError) -> UprightError:
    """The one line for a full disk, a missing permission and the like."""
    return UprightError(f"{path}: cannot be written ({reason(error)})")


def is_unfinished(path: Path) -> bool:
    """Whether `write_atomically` left this when its process was killed."""
    return re.fullmatch(r"\..+\.[0-9a-f]{8}", path.name) is not None
