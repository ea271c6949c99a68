"""The run folder: what was asked, on what, and what happened. Written as the training goes."""

import csv
import json
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upright.errors import UprightError
from upright.files import write_atomically
from upright.policy import Policy, load_policy

VERSION = 1

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
        except OSError as error:
            raise UprightError(f"{path}: not a run folder (run.json: {error.strerror})") from None
        except (ValueError, KeyError, TypeError):
            raise UprightError(f"{path}: run.json is damaged") from None
        if version != VERSION:
            raise UprightError(f"{path}: run format {version}; this version reads {VERSION}")

    @property
    def seeds(self) -> list[int]:
        return self.info["seeds"]

    @property
    def status(self) -> str:
        """running, finished or interrupted."""
        return self.info["status"]

    @property
    def results(self) -> list[dict[str, Any]]:
        """One for each seed: how it ended, the step of the kept policy, its judgement."""
        return self.info["results"]

    def table(self, name: str) -> dict[str, NDArray[np.float64]]:
        """A CSV file of the run as columns: "episodes", "evaluations" or "learning"."""
        path = self.path / f"{name}.csv"
        try:
            with path.open() as file:
                names = file.readline().strip().split(",")
                rows = np.loadtxt(file, delimiter=",", ndmin=2)
        except (OSError, ValueError) as error:
            raise UprightError(f"{path}: cannot be read ({error})") from None
        return dict(zip(names, rows.reshape(-1, len(names)).T, strict=True))

    def policy(self, seed: int) -> Policy:
        """The kept policy of a seed."""
        return load_policy(policy_path(self.path, seed))

    def best(self) -> Policy:
        """The best kept policy of all seeds."""
        return load_policy(self.path / "policies" / "best.safetensors")


class RunWriter:
    """A run folder, to be written; a context that closes its files."""

    def __init__(self, path: Path, info: dict[str, Any]):
        """Raises UprightError if the folder cannot be made or is not empty."""
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            occupied = "run.json" if (path / "run.json").exists() else next(path.iterdir(), None)
            if occupied == "run.json":
                raise UprightError(f"{path}: already holds a run; choose another folder with --out")
            if occupied is not None:
                raise UprightError(f"{path}: is not empty; choose another folder with --out")
            (path / "policies").mkdir()
        except OSError as error:
            raise UprightError(f"{path}: cannot be written ({error.strerror})") from None
        self.info = {
            "format": "upright-run",
            "version": VERSION,
            "status": "running",
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            **info,
        }
        self.save_info()
        self._files = {name: (path / f"{name}.csv").open("w", newline="") for name in COLUMNS}
        self._writers = {name: csv.writer(file) for name, file in self._files.items()}
        for name, columns in COLUMNS.items():
            self._writers[name].writerow(columns)

    def append(self, name: str, rows: Iterable[Sequence[object]]) -> None:
        """Rows of `COLUMNS[name]`, on disk at once."""
        self._writers[name].writerows(rows)
        self._files[name].flush()

    def save_info(self, **changes: Any) -> None:
        self.info.update(changes)
        text = json.dumps(self.info, indent=2, allow_nan=False)
        write_atomically(self.path / "run.json", text.encode())

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            file.close()


def policy_path(run: Path, seed: int, last: bool = False) -> Path:
    """Of the kept policy of a seed, or of its last one."""
    return run / "policies" / f"seed-{seed:02d}{'-last' if last else ''}.safetensors"


def find_runs(folder: Path) -> list[Run]:
    """The runs in a folder, oldest first."""
    if not folder.is_dir():
        raise UprightError(f"{folder}: no such folder")
    runs = [Run(path.parent) for path in folder.glob("*/run.json")]
    return sorted(runs, key=lambda run: run.info["started"])


def open_run_or_policy(path: str | os.PathLike[str]) -> Run | Policy:
    """A folder is a run, a file is a policy."""
    return Run(path) if Path(path).is_dir() else load_policy(path)
