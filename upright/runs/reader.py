"""A run folder, to be read."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upright.errors import UprightError
from upright.policy import Policy, load_policy
from upright.runs import folder
from upright.runs.folder import SeedInfo, State
from upright.spec import Spec

Table = dict[str, NDArray[np.float64]]


class Run:
    """A run as it was when this was made; its tables and policies are read when they are asked for.

    `info` is what was asked (`RunInfo`), `spec` what its task looks like, `results` what each seed
    has done (`SeedInfo`).
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Raises UprightError if this is no run folder, a damaged one or of another version."""
        self.path = Path(path)
        self.info = folder.read_run_info(self.path)
        try:
            self.spec = Spec.from_dict(self.info.spec)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, UprightError):
            raise UprightError(f"{path}: run.json is damaged (spec)") from None
        # A seed that somebody joined has a folder; one that has not begun yet has none.
        seeds = {*self.info.config.seeds, *folder.seeds_there(self.path)}
        self.results: list[SeedInfo] = [
            folder.read_seed_info(self.path, seed) for seed in sorted(seeds)
        ]

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self.info.config.task}, {self.status})"

    @property
    def seeds(self) -> list[int]:
        """In order."""
        return [result.seed for result in self.results]

    @property
    def preset(self) -> str:
        """The name of the preset, and what was changed of its settings."""
        return ", ".join([self.info.config.preset, *self.info.changes])

    @property
    def status(self) -> State:
        """finished, unless a seed has failed, was interrupted or is (or was killed) running."""
        states = {result.state for result in self.results}
        for state in ("failed", "interrupted", "running"):
            if state in states:
                return state
        return "finished"

    @property
    def warnings(self) -> list[str]:
        """Of the whole run, then of its seeds."""
        return [*self.info.warnings, *(text for seed in self.results for text in seed.warnings)]

    def table(self, name: str) -> Table:
        """A table of all seeds: "episodes", "evaluations" or "learning".

        Columns by name, the seed first; seed after seed, each in the order of its steps. Raises
        UprightError if there is none.
        """
        parts: list[Table] = []
        for seed in self.seeds:
            path = folder.seed_folder(self.path, seed) / f"{name}.csv"
            if not path.exists():
                continue
            table = _read_table(path)
            rows = len(next(iter(table.values())))
            parts.append({"seed": np.full(rows, seed, np.float64), **table})
            if parts[-1].keys() != parts[0].keys():
                raise UprightError(f"{path}: has other columns than those of other seeds")
        if not parts:
            raise UprightError(f"{self.path}: no seed has a table {name}.csv")
        return {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}

    def policy(self, seed: int) -> Policy:
        """The kept policy of a seed."""
        return load_policy(folder.policy_path(self.path, seed))

    def policies(self) -> dict[int, Policy]:
        """The kept policies by seed: of all seeds, or of those that a killed run got to."""
        found = [seed for seed in self.seeds if folder.policy_path(self.path, seed).exists()]
        if not found:
            raise UprightError(f"{self.path}: holds no policy")
        return {seed: self.policy(seed) for seed in found}

    def best(self) -> Policy:
        """The best kept policy of all seeds."""
        return load_policy(folder.best_path(self.path))


def find_runs(place: Path) -> tuple[list[Run], list[str]]:
    """The runs in a folder, oldest first, and what is wrong with those that cannot be read."""
    if not place.is_dir():
        raise UprightError(f"{place}: no such folder")
    runs: list[Run] = []
    complaints: list[str] = []
    for path in sorted(place.glob("*/run.json")):
        try:
            runs.append(Run(path.parent))
        except UprightError as error:
            complaints.append(str(error))
    return sorted(runs, key=lambda run: run.info.started), complaints


def open_run_or_policy(path: str | os.PathLike[str]) -> Run | Policy:
    """A folder is a run, a file is a policy."""
    return Run(path) if Path(path).is_dir() else load_policy(path)


def _read_table(path: Path) -> Table:
    """Columns by name; a last line that is being written, or was when its writer died, is none."""
    try:
        text = path.read_text()
        names, *lines = text[: text.rfind("\n") + 1].splitlines()
        columns = names.split(",")
        rows = np.array([line.split(",") for line in lines], np.float64)
        rows = rows.reshape(len(lines), len(columns))
    except (OSError, ValueError) as error:
        raise UprightError(f"{path}: cannot be read ({error})") from None
    return dict(zip(columns, rows.T, strict=True))
