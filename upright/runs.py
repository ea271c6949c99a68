"""The run folder: what was asked, on what, and what happened. Written as the training goes."""

import contextlib
import csv
import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from upright.errors import UprightError, UprightWarning
from upright.files import make_folder, remove_unfinished, write_atomically
from upright.policy import Policy, load_policy

FORMAT, VERSION = "upright-run", 2
_MEMBERS = {"status", "started", "command", "config", "spec", "seeds", "results"}

COLUMNS = {
    "episodes": ("seed", "episode", "step", "return", "length", "terminated"),
    "evaluations": ("seed", "step", "episodes", "mean_return", "min_return", "max_return", "kept"),
    "learning": ("seed", "step", "loss", "q_mean", "epsilon", "learning_rate"),
}


class Run:
    """A run folder, to be read."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        try:
            self.info: dict[str, Any] = json.loads((self.path / "run.json").read_text())
            version = self.info["version"]
            missing = _MEMBERS - set(self.info)
            if self.info["format"] != FORMAT or (version == VERSION and missing):
                raise ValueError
        except OSError as error:
            raise UprightError(f"{path}: not a run folder (run.json: {error.strerror})") from None
        except (ValueError, KeyError, TypeError):
            raise UprightError(f"{path}: run.json is damaged") from None
        if version != VERSION:
            raise UprightError(f"{path}: run format {version}; this version reads {VERSION}")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self.info['config']['task']}, {self.status})"

    @property
    def seeds(self) -> list[int]:
        return self.info["seeds"]

    @property
    def preset(self) -> str:
        """The name of the preset, and what was changed of its settings."""
        return ", ".join([self.info["config"]["preset"], *self.info.get("changes", [])])

    @property
    def status(self) -> str:
        """running, finished, interrupted or failed."""
        return self.info["status"]

    @property
    def results(self) -> list[dict[str, Any]]:
        """One for each seed: how it ended, the step of the kept policy, its judgement."""
        return self.info["results"]

    def table(self, name: str) -> dict[str, NDArray[np.float64]]:
        """A CSV file of the run as columns: "episodes", "evaluations" or "learning"."""
        path = self.path / f"{name}.csv"
        try:
            names, *lines = path.read_text().splitlines()
            rows = np.array([line.split(",") for line in lines], np.float64)
        except (OSError, ValueError) as error:
            raise UprightError(f"{path}: cannot be read ({error})") from None
        columns = names.split(",")
        return dict(zip(columns, rows.reshape(-1, len(columns)).T, strict=True))

    def policy(self, seed: int) -> Policy:
        """The kept policy of a seed."""
        return load_policy(policy_path(self.path, seed))

    def policies(self) -> dict[int, Policy]:
        """The kept policies by seed: of all seeds, or of those that a killed run got to."""
        found = [seed for seed in self.seeds if policy_path(self.path, seed).exists()]
        if not found:
            raise UprightError(f"{self.path}: holds no policy")
        return {seed: self.policy(seed) for seed in found}

    def best(self) -> Policy:
        """The best kept policy of all seeds."""
        return load_policy(self.path / "policies" / "best.safetensors")


class RunWriter:
    """A run folder, to be written by one process at a time; a context that closes its files."""

    def __init__(self, path: Path, info: dict[str, Any]):
        """Of a folder that this process has locked; see `create` and `reopen`."""
        self.path = path
        self.info = info
        self._files: dict[str, TextIO] = {}
        self._made: list[Path] = []  # what is removed if nothing was learned, in this order
        self._begun = False  # something in the folder was changed
        self._lock = FileLock(path / ".lock", blocking=False)

    @classmethod
    def create(cls, path: Path, info: dict[str, Any]) -> "RunWriter":
        """A new folder. Raises UprightError if it cannot be made or is not empty."""
        header = {
            "format": FORMAT,
            "version": VERSION,
            "status": "running",
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "warnings": [],
        }
        writer = cls(path, {**header, **info})
        writer._text()  # what JSON cannot hold fails here, before anything is written
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        make_folder(path)
        try:
            if any(entry.name != ".lock" for entry in path.iterdir()):
                what = "already holds a run" if (path / "run.json").exists() else "is not empty"
                raise UprightError(f"{path}: {what}; choose another folder with --out")
        except OSError as error:
            raise UprightError(f"{path}: cannot be written ({error.strerror})") from None
        writer._acquire()  # from here on, what is in the folder is ours
        names = (".lock", *(f"{name}.csv" for name in COLUMNS), "run.json")
        writer._made = [*(path / name for name in names), path / "policies", *missing[:1]]
        try:
            # In this order: whenever it is killed, the folder is still good for a run or a resume.
            writer.save_info()
            writer.rewind({})
        except UprightError:
            writer._discard()
            raise
        return writer

    @classmethod
    def reopen(cls, path: Path) -> "RunWriter":
        """A folder to go on with. Raises UprightError if it is none or another process has it."""
        run = Run(path)
        # Writing into a stranger's folder must not reach out of it.
        folders = [path, path / "policies", path / "checkpoints"]
        for inside in (entry for folder in folders for entry in folder.glob("*")):
            if inside.is_symlink():
                raise UprightError(f"{inside}: is a link; a run is written only where it lies")
        writer = cls(path, run.info)
        writer._acquire()
        writer.info = Run(path).info  # whoever had the lock may have just finished
        return writer

    def rewind(self, sizes: Mapping[str, int]) -> None:
        """Cuts the CSV files back to these sizes [bytes], or to their first line.

        Raises UprightError, and changes nothing, if one is shorter.
        """
        for name, size in sizes.items():
            path = self.path / f"{name}.csv"
            if not path.is_file() or path.stat().st_size < size:
                raise UprightError(f"{path}: shorter than its checkpoint says; it was changed")
        self._begun = True
        make_folder(self.path / "policies")
        for folder in (self.path, self.path / "policies", self.path / "checkpoints"):
            remove_unfinished(folder)
        for name, columns in COLUMNS.items():
            path = self.path / f"{name}.csv"
            try:
                self._files[name] = file = path.open("r+" if sizes else "w", newline="")
                if not sizes:
                    csv.writer(file).writerow(columns)
                    file.flush()
                    continue
                file.seek(sizes[name])
                file.truncate()
            except OSError as error:
                raise UprightError(f"{path}: cannot be written ({error.strerror})") from None

    def sizes(self) -> dict[str, int]:
        """Of the CSV files [bytes], once they are on the disk."""
        try:
            for file in self._files.values():
                os.fsync(file.fileno())
            return {name: os.fstat(file.fileno()).st_size for name, file in self._files.items()}
        except OSError as error:
            raise UprightError(f"{self.path}: cannot be written ({error.strerror})") from None

    def warn(self, text: str) -> None:
        """In run.json, and as a Python warning."""
        self.info["warnings"].append(text)
        warnings.warn(text, UprightWarning, stacklevel=2)

    def append(self, name: str, rows: Iterable[Sequence[object]]) -> None:
        """Rows of `COLUMNS[name]`, in the file at once. Raises UprightError on a full disk."""
        try:
            csv.writer(self._files[name]).writerows(rows)
            self._files[name].flush()
        except OSError as error:
            path = self._files[name].name
            raise UprightError(f"{path}: cannot be written ({error.strerror})") from None

    def save_info(self, **changes: Any) -> None:
        """Writes run.json anew. Raises UprightError if that cannot be."""
        self.info.update(changes)
        write_atomically(self.path / "run.json", self._text().encode())

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except Timeout:
            raise UprightError(f"{self.path}: another process is writing this run") from None
        except OSError as error:
            raise UprightError(f"{self.path}: cannot be written ({error.strerror})") from None

    def _text(self) -> str:
        return json.dumps(self.info, indent=2, allow_nan=False)

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                self._note_end(kind)
        finally:
            self._close()
            self._lock.release()

    def _note_end(self, kind: type[BaseException] | None) -> None:
        if self._made and not any((self.path / "policies").glob("*")):
            self._discard()  # nothing has been learned: leave nothing half written
            return
        if not self._begun:
            return  # a resume that was refused
        with contextlib.suppress(UprightError):
            self.save_info(status="interrupted" if kind is KeyboardInterrupt else "failed")

    def _close(self) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError):  # a full disk was reported by `append`
                file.close()

    def _discard(self) -> None:
        """Removes what was made here, and nothing else."""
        self._close()
        self._lock.release()
        with contextlib.suppress(OSError):
            for path in (self.path / "checkpoints").glob("*.safetensors"):
                path.unlink()
            (self.path / "checkpoints").rmdir()
        with contextlib.suppress(OSError):
            for path in self._made:
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)


def policy_path(run: Path, seed: int, last: bool = False) -> Path:
    """Of the kept policy of a seed, or of its last one."""
    return run / "policies" / f"seed-{seed:02d}{'-last' if last else ''}.safetensors"


def find_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """The runs in a folder, oldest first, and what is wrong with those that cannot be read."""
    if not folder.is_dir():
        raise UprightError(f"{folder}: no such folder")
    runs: list[Run] = []
    complaints: list[str] = []
    for path in sorted(folder.glob("*/run.json")):
        try:
            runs.append(Run(path.parent))
        except UprightError as error:
            complaints.append(str(error))
    return sorted(runs, key=lambda run: run.info["started"]), complaints


def open_run_or_policy(path: str | os.PathLike[str]) -> Run | Policy:
    """A folder is a run, a file is a policy."""
    return Run(path) if Path(path).is_dir() else load_policy(path)
