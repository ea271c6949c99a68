"""A run folder, to be read."""

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upright import tensors
from upright.calling import check_kind
from upright.errors import UprightError
from upright.policy import Policy, load_policy
from upright.runs import folder
from upright.runs.folder import SeedInfo, State
from upright.runs.held import is_held
from upright.spec import Spec

_LARGEST_TABLE = 1 << 40  # bytes
Table = dict[str, NDArray[np.float64]]


class Run:
    """A run as it was when this was made; its tables and policies are read when they are asked for.

    `info` is what was asked (`RunInfo`), `spec` what its task looks like, `results` what each seed
    has done (`SeedInfo`).
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Raises UprightError if this is no run folder, a damaged one or of another version."""
        check_kind("run", path, str | os.PathLike, "the folder of a run")
        self.path = Path(path)
        self.info = folder.read_run_info(self.path)
        try:
            self.spec = Spec.from_dict(self.info.spec)
        except UprightError as error:
            raise UprightError(f"{path}: run.json is damaged (spec: {error})") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            raise UprightError(f"{path}: run.json is damaged (spec)") from None
        # A seed that somebody joined has a folder; one that has not begun yet has none.
        seeds = {*self.info.config.seeds, *folder.seeds_there(self.path)}
        self.results: list[SeedInfo] = [self._read_seed(seed) for seed in sorted(seeds)]

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
        """finished, unless a seed has failed, was interrupted (or killed) or is running."""
        states = {result.state for result in self.results}
        for state in ("failed", "interrupted", "running"):
            if state in states:
                return state
        return "finished"

    @property
    def warnings(self) -> list[str]:
        """Of the whole run, then of its seeds."""
        return [*self.info.warnings, *(text for seed in self.results for text in seed.warnings)]

    def _read_seed(self, seed: int) -> SeedInfo:
        """A damaged one has failed; who is not at the end, and nobody is at it, was interrupted."""
        held = is_held(folder.lock_path(self.path, seed))  # first: it may just be ending
        try:
            result = folder.read_seed_info(self.path, seed)
        except UprightError as error:
            return SeedInfo(seed, "failed", error=str(error))
        config = self.info.config
        if result.state not in ("running", "finished") or not result.is_unfinished(
            config.steps, config.episodes
        ):
            return result
        return replace(result, state="running" if held else "interrupted")

    def table(self, name: str) -> Table:
        """A table of all seeds: "episodes", "evaluations" or "learning".

        Columns by name, the seed first; seed after seed, each in the order of its steps. Raises
        UprightError if there is none.
        """
        parts: list[Table] = []
        for seed in self.seeds:
            path = folder.seed_folder(self.path, seed) / f"{name}.csv"
            table = _read_table(path) if path.exists() else None
            if table is None:
                continue
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


def find_runs(place: str | os.PathLike[str]) -> tuple[list[Run], list[str]]:
    """The runs in a folder, oldest first, and what is wrong with those that cannot be read."""
    check_kind("place", place, str | os.PathLike, "a folder with runs in it")
    place = Path(place)
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


def find_run(run: Any) -> Run:
    """A run itself, or that of a folder. Raises UprightError for anything else."""
    if isinstance(run, Run):
        return run
    check_kind("run", run, str | os.PathLike, "a Run, or the folder of one")
    return Run(run)


def find_policy(policy: Any) -> Policy:
    """A policy itself, that of a file, or the best one of a run or of a run's folder.

    Raises UprightError for anything else.
    """
    if isinstance(policy, Policy):
        return policy
    if not isinstance(policy, Run):
        check_kind("policy", policy, str | os.PathLike, "a Policy, a Run, or the path of one")
        policy = open_run_or_policy(policy)
    return policy.best() if isinstance(policy, Run) else policy


def _read_table(path: Path) -> Table | None:
    """Columns by name; a last line that is being written, or was when its writer died, is none.

    None where that is all there is.
    """
    content = tensors.read(path, _LARGEST_TABLE)
    try:
        text = content[: content.rfind(b"\n") + 1].decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise UprightError(f"{path}: is damaged; it is not text") from None
    first, *lines = text.split("\n")[:-1] or [""]
    if not first:
        return None
    columns = first.split(",")
    expected = folder.COLUMNS.get(path.stem, ("step",))
    if tuple(columns)[: len(expected)] != expected or len(set(columns)) < len(columns):
        raise UprightError(f"{path}: is damaged; its first line must be {','.join(expected)}")
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=2):
        with contextlib.suppress(ValueError):
            rows.append([float(cell) for cell in line.split(",")])
        if len(rows) != number - 1 or len(rows[-1]) != len(columns):
            raise UprightError(
                f"{path}: line {number} is damaged; it must be {len(columns)} numbers"
            )
    values = np.array(rows, np.float64).reshape(len(rows), len(columns))
    return dict(zip(columns, values.T, strict=True))
