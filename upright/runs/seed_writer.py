"""One seed's folder, to be written."""

import contextlib
import csv
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from upright.errors import UprightError
from upright.files import make_folder, reason, remove_unfinished, unwritable, write_atomically
from upright.policy import Policy
from upright.runs import folder
from upright.runs.checkpoint import Seal
from upright.runs.folder import DamagedError, SeedInfo, Which

_PATIENCE = 0.05  # with a reader that looks whether this is being written [s]
_CHUNK = 1 << 20  # bytes


class TakenError(UprightError):
    """Another process is writing this."""


class SeedWriter:
    """One seed's folder, which only this process writes."""

    def __init__(self, run: Path, seed: int, made: bool):
        """`made`: by this process, which then may remove it again. Raises UprightError if another
        process has it.
        """
        self.run = run
        self.path = folder.seed_folder(run, seed)
        self.made = made
        self.begun = False  # something in the folder was changed
        make_folder(self.path)
        self._hashes: dict[str, Any] = {}  # of the tables as they are
        self._lock = FileLock(folder.lock_path(run, seed), timeout=_PATIENCE, poll_interval=0.01)
        try:
            self._lock.acquire()
        except Timeout:
            raise TakenError(f"{self.path}: another process is writing this seed") from None
        except OSError as error:
            raise unwritable(self.path, error) from None
        self.damage = ""  # what is wrong with its seed.json
        try:
            self.info = folder.read_seed_info(run, seed)  # whoever had it may have just finished
        except DamagedError as error:
            self.damage = str(error)
            self.info = SeedInfo(seed)
        except BaseException:
            self._lock.release()
            raise

    def begin(self, columns: Mapping[str, Sequence[str]]) -> None:
        """Tables with their first line alone, no policies."""
        self._start()
        for which in ("kept", "last"):
            self.put_policy(which, None)
        self._hashes = {name: hashlib.sha256() for name in columns}
        for name, names in columns.items():
            self._write(name, "w", [names])

    def rewind(self, seals: Mapping[str, Seal]) -> None:
        """Cuts the tables back to what was sealed, as it was checked."""
        self._start()
        for name, seal in seals.items():
            path = self.table_path(name)
            try:
                os.truncate(path, seal.size)
            except OSError as error:
                raise unwritable(path, error) from None

    def check(self, seals: Mapping[str, Seal]) -> None:
        """Raises UprightError if a table does not begin with what was sealed."""
        for name, seal in seals.items():
            path = self.table_path(name)
            if not path.is_file() or path.stat().st_size < seal.size:
                raise UprightError(
                    f"{path}: shorter than its checkpoint says; it was changed;"
                    f" {folder.way_out(self.path)}"
                )
            self._hashes[name] = _hash(path, seal.size)
            if self._hashes[name].hexdigest() != seal.sha256:
                raise UprightError(
                    f"{path}: not what its checkpoint says; it was changed;"
                    f" {folder.way_out(self.path)}"
                )

    def seals(self) -> dict[str, Seal]:
        """Of the tables, once they are on the disk."""
        seals: dict[str, Seal] = {}
        for name, digest in self._hashes.items():
            path = self.table_path(name)
            try:
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
                    size = os.fstat(file.fileno()).st_size
            except OSError as error:
                raise unwritable(path, error) from None
            seals[name] = Seal(digest.hexdigest(), size)
        return seals

    def append(self, name: str, rows: Iterable[Sequence[object]]) -> None:
        """Rows of a table, in the file at once. Raises UprightError on a full disk."""
        self._write(name, "a", rows)

    def put_policy(self, which: Which, policy: Policy | None) -> None:
        """Writes the seed's kept or last policy, or removes it."""
        path = self.policy_path(which)
        if policy:
            policy.save(path)
            return
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(path, error) from None

    def save_info(self, **changes: Any) -> None:
        """Writes seed.json anew."""
        self.info = replace(self.info, **changes)
        write_atomically(self.path / "seed.json", self.info.to_bytes())

    def warn(self, text: str) -> None:
        """In seed.json, from its next writing on."""
        self.info = replace(self.info, warnings=(*self.info.warnings, text))

    def policy_path(self, which: Which) -> Path:
        return folder.policy_path(self.run, self.info.seed, which)

    def table_path(self, name: str) -> Path:
        return self.path / f"{name}.csv"

    def close(self) -> None:
        self._lock.release()

    def discard(self) -> None:
        """Removes the folder, if it was made here and holds no policy."""
        if not self.made or any(self.path.glob("*.safetensors")):
            return
        remove_unfinished(self.path)
        with contextlib.suppress(OSError):
            for path in self.path.glob("checkpoints/*"):
                path.unlink()
            (self.path / "checkpoints").rmdir()
        with contextlib.suppress(OSError):
            for path in [*self.path.glob("*.csv"), self.path / "seed.json", self.path / ".lock"]:
                path.unlink(missing_ok=True)
            self.path.rmdir()

    def _start(self) -> None:
        """Says that it is under way, before anything else changes."""
        self.begun = True
        self.save_info(
            state="running", error=None, final_evaluation=None, randomised_evaluation=None
        )
        for place in (self.path, self.path / "checkpoints"):
            remove_unfinished(place)

    def _write(self, name: str, mode: str, rows: Iterable[Sequence[object]]) -> None:
        text = StringIO(newline="")
        csv.writer(text).writerows(rows)
        content = text.getvalue().encode()
        path = self.table_path(name)
        try:
            with path.open(f"{mode}b") as file:
                file.write(content)
        except OSError as error:
            raise unwritable(path, error) from None
        self._hashes[name].update(content)


def _hash(path: Path, size: int) -> Any:
    """Of the first so many bytes."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(min(size, _CHUNK)):
                digest.update(part)
                size -= len(part)
    except OSError as error:
        raise UprightError(f"{path}: cannot be read ({reason(error)})") from None
    return digest
