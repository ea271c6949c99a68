"""Compiled programs are kept between runs, in the user's cache folder. Damaged ones go."""

import os
import time
from importlib import import_module
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

LARGEST = 1 << 30  # bytes; beyond it JAX throws away what was not used for longest

_VARIABLE = "UPRIGHT_CACHE"  # another folder, say on a faster disk
_LOCK_SECONDS = 5.0  # somebody who holds it longer than that was stopped
_ENTRY, _USED = "-cache", "-atime"  # JAX's files for each program; the second is written last


def ready_folder() -> Path | None:
    """The folder, with whole entries alone; None if there can be none.

    JAX writes an entry where it will be read: a killed process, a power cut or a full disk leaves
    a part of it, which JAX would complain of at every start and never write again.
    """
    given = os.environ.get(_VARIABLE)
    folder = Path(given) if given else user_cache_path("upright") / "programs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lockfile", timeout=_LOCK_SECONDS):  # JAX's own
            _remove_damaged(folder)
    except (OSError, ValueError, NotImplementedError):
        return None  # no home, no permission, no locks: then everything is compiled each time
    return folder


def _remove_damaged(folder: Path) -> None:
    """Looks into the entries that are newer than the last look."""
    begun = time.time_ns()
    looked = folder / "looked-through"
    since = looked.stat().st_mtime_ns if looked.exists() else 0
    for entry in folder.glob(f"*{_ENTRY}"):
        used = entry.with_name(entry.name.removesuffix(_ENTRY) + _USED)
        new = entry.stat().st_mtime_ns >= since
        if not used.exists() or (new and not _is_whole(entry.read_bytes())):
            entry.unlink()
            used.unlink(missing_ok=True)
    looked.touch()
    os.utime(looked, ns=(begun, begun))


def _is_whole(entry: bytes) -> bool:
    """Whether JAX can unpack it; a checksum is part of that."""
    try:
        import_module("jax._src.compilation_cache").decompress_executable(entry)
    except Exception:  # of whichever library it was packed by
        return False
    return True
