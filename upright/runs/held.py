"""Whether a process holds a lock; asked without leaving a trace."""

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None


def is_held(lock: Path) -> bool:
    """Also true where that cannot be known.

    A shared lock, for a moment: readers do not see each other, and a writer that begins just then
    has the patience.
    """
    try:
        number = os.open(lock, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    if fcntl is None:
        os.close(number)
        return True
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(number)  # which frees it
    return False
