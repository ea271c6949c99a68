"""A run folder, to be written: by several processes, each with seeds of its own."""

import contextlib
import csv
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from upright.errors import UprightError
from upright.files import is_unfinished, make_folder, remove_unfinished, write_atomically
from upright.policy import Policy, load_policy
from upright.runs import folder
from upright.runs.folder import Evaluated, RunInfo, SeedInfo, Which
from upright.runs.reader import Run

_PATIENCE = 30.0  # with another process that refreshes the best policy [s]


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
        self._lock = FileLock(self.path / ".lock", blocking=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise TakenError(f"{self.path}: another process is writing this seed") from None
        except OSError as error:
            raise _unwritable(self.path, error) from None
        self.info = folder.read_seed_info(run, seed)  # whoever had it may have just finished

    def begin(self, columns: Mapping[str, Sequence[str]]) -> None:
        """Tables with their first line alone, no policies."""
        self._clean()
        for name, names in columns.items():
            self._write(name, "w", [names])

    def rewind(self, sizes: Mapping[str, int]) -> None:
        """Cuts the tables back to these sizes [bytes]."""
        self._clean()
        for name, size in sizes.items():
            path = self.table_path(name)
            try:
                os.truncate(path, size)
            except OSError as error:
                raise _unwritable(path, error) from None

    def check_sizes(self, sizes: Mapping[str, int]) -> None:
        """Raises UprightError if a table is shorter."""
        for name, size in sizes.items():
            path = self.table_path(name)
            if not path.is_file() or path.stat().st_size < size:
                raise UprightError(f"{path}: shorter than its checkpoint says; it was changed")

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """How long these tables are [bytes], once they are on the disk."""
        sizes: dict[str, int] = {}
        for name in names:
            path = self.table_path(name)
            try:
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
                    sizes[name] = os.fstat(file.fileno()).st_size
            except OSError as error:
                raise _unwritable(path, error) from None
        return sizes

    def append(self, name: str, rows: Iterable[Sequence[object]]) -> None:
        """Rows of a table, in the file at once. Raises UprightError on a full disk."""
        self._write(name, "a", rows)

    def save_policy(self, which: Which, policy: Policy) -> None:
        """Writes the seed's kept or last policy."""
        policy.save(self.policy_path(which))

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
        with contextlib.suppress(OSError):
            for path in self.path.glob("checkpoints/*"):
                path.unlink()
            (self.path / "checkpoints").rmdir()
        with contextlib.suppress(OSError):
            for path in [*self.path.glob("*.csv"), self.path / "seed.json", self.path / ".lock"]:
                path.unlink(missing_ok=True)
            self.path.rmdir()

    def _clean(self) -> None:
        self.begun = True
        for place in (self.path, self.path / "checkpoints"):
            remove_unfinished(place)
        for which in ("kept", "last"):
            self.policy_path(which).unlink(missing_ok=True)

    def _write(self, name: str, mode: str, rows: Iterable[Sequence[object]]) -> None:
        text = StringIO(newline="")
        csv.writer(text).writerows(rows)
        path = self.table_path(name)
        try:
            with path.open(f"{mode}b") as file:
                file.write(text.getvalue().encode())
        except OSError as error:
            raise _unwritable(path, error) from None


class RunWriter:
    """The seeds of a run that this process writes. A context, which gives them free."""

    def __init__(self, path: Path, info: RunInfo):
        """Of a run that exists; see `create`, `join` and `resume`."""
        self.path = path
        self.info = info
        self.seeds: dict[int, SeedWriter] = {}
        self.others: list[int] = []  # unfinished seeds that another process writes
        self._made: list[Path] = []  # beside seeds: removed if nothing was learned, in this order

    @classmethod
    def create(cls, path: Path, info: RunInfo) -> "RunWriter":
        """A new run. Raises UprightError if the folder cannot be made or is not empty."""
        content = info.to_bytes()  # what JSON cannot hold fails here, before anything is written
        missing = [place for place in (path, *path.parents) if not place.exists()]
        make_folder(path)
        _refuse_used(path)  # without leaving a lock in it
        writer = cls(path, info)
        try:
            with writer.locked():
                _refuse_used(path)  # nor has anybody been faster
                remove_unfinished(path)
                names = ("run.json", ".lock", "seeds")
                writer._made = [*(path / name for name in names), *missing[:1]]
                # In this order: whenever it is killed, the folder is good for a run or a resume.
                write_atomically(path / "run.json", content)
                writer._make_seeds(info.config.seeds)
        except UprightError:
            writer._discard()
            raise
        return writer

    @classmethod
    def join(cls, path: Path, seeds: Sequence[int]) -> "RunWriter":
        """More seeds of a run. Raises UprightError if it has one of them already."""
        refuse_links(path)
        writer = cls(path, folder.read_run_info(path))
        with writer.locked():
            if there := sorted(set(seeds) & set(Run(path).seeds)):
                raise UprightError(
                    f"{path}: has {folder.name_seeds(there)} already; choose others with --seeds"
                )
            try:
                writer._make_seeds(seeds)
            except UprightError:
                writer._discard()
                raise
        return writer

    @classmethod
    def resume(cls, path: Path, steps: int | None, episodes: int | None) -> "RunWriter":
        """The seeds with something left to do, that no other process writes; maybe none."""

        def unfinished(seed: SeedInfo) -> bool:
            return seed.is_unfinished(steps, episodes)

        run = Run(path)
        refuse_links(path)
        writer = cls(path, run.info)
        _allow_open_files(len(run.seeds))
        try:
            for seed in filter(unfinished, run.results):
                try:
                    seed_writer = SeedWriter(path, seed.seed, made=False)
                except TakenError:
                    writer.others.append(seed.seed)
                    continue
                if unfinished(seed_writer.info):
                    writer.seeds[seed.seed] = seed_writer
                else:
                    seed_writer.close()
        except UprightError:
            writer._close()
            raise
        return writer

    def save_budget(self, steps: int | None, episodes: int | None) -> None:
        """Another budget, in run.json, unless another process has put a larger one there."""
        with self.locked():
            self.info = folder.read_run_info(self.path)
            before = self.info.config
            larger = {
                "steps": max(steps, before.steps or 0) if steps else None,
                "episodes": max(episodes, before.episodes or 0) if episodes else None,
            }
            self.info = replace(self.info, config=replace(before, **larger))
            write_atomically(self.path / "run.json", self.info.to_bytes())

    def offer_best(self, policy: Policy) -> None:
        """Makes it the best policy of the run if it is better than that."""
        path = folder.best_path(self.path)
        with self.locked():
            try:
                present = _rank(load_policy(path))
            except UprightError:
                present = None
            if present is None or _rank(policy) > present:
                policy.save(path)

    def refresh_best(self) -> None:
        """Makes the best of all kept policies, of other processes' seeds, too, that of the run."""
        with self.locked():
            remove_unfinished(self.path)  # whoever writes there holds the lock
            kept = list(_kept_policies(self.path))
            if kept:
                max(kept, key=_rank).save(folder.best_path(self.path))

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """For a moment no other process changes what the seeds have in common."""
        lock = FileLock(self.path / ".lock", timeout=_PATIENCE)
        try:
            lock.acquire()
        except Timeout:
            raise TakenError(f"{self.path}: another process holds {self.path / '.lock'}") from None
        except OSError as error:
            raise _unwritable(self.path, error) from None
        try:
            yield
        finally:
            lock.release()

    def _make_seeds(self, seeds: Iterable[int]) -> None:
        """Raises UprightError if a folder cannot be made."""
        seeds = list(seeds)
        _allow_open_files(len(seeds))
        for seed in seeds:
            self.seeds[seed] = SeedWriter(self.path, seed, made=True)

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
                self._note_end(error)
        finally:
            self._close()

    def _note_end(self, error: BaseException) -> None:
        learned = any(any(seed.path.glob("*.safetensors")) for seed in self.seeds.values())
        if not learned and any(seed.made for seed in self.seeds.values()):
            self._discard()  # leave nothing half written
            return
        state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        for seed in self.seeds.values():
            if seed.begun and seed.info.state == "running":
                with contextlib.suppress(UprightError):
                    seed.save_info(state=state, error=str(error) or None)

    def _close(self) -> None:
        for seed in self.seeds.values():
            seed.close()

    def _discard(self) -> None:
        """Removes what was made here, and nothing else."""
        self._close()
        for seed in self.seeds.values():
            seed.discard()
        with contextlib.suppress(OSError):
            if self._made:
                (self.path / "seeds").rmdir()  # not empty: somebody has joined us
            for path in self._made:
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)


def _refuse_used(path: Path) -> None:
    """Raises UprightError unless a folder is empty, apart from what a killed beginning left."""
    try:
        entries = list(path.iterdir())
    except OSError as error:
        raise _unwritable(path, error) from None
    if any(entry.name != ".lock" and not is_unfinished(entry) for entry in entries):
        what = "already holds a run" if (path / "run.json").exists() else "is not empty"
        raise UprightError(
            f"{path}: {what}; choose another folder with --out, or add seeds to a run with --join"
        )


def refuse_links(run: Path) -> None:
    """Raises UprightError where writing into a stranger's folder would reach out of it."""
    for place in (run, run / "seeds", *(run / "seeds").glob("*"), *run.glob("seeds/*/checkpoints")):
        for inside in place.glob("*"):
            if inside.is_symlink():
                raise UprightError(
                    f"{inside}: is a symbolic link; runs with links inside are not resumed"
                )


def _kept_policies(run: Path) -> Generator[Policy]:
    for seed in folder.seeds_there(run):
        path = folder.policy_path(run, seed)
        # Its own process may be taking it back just now.
        with contextlib.suppress(UprightError):
            yield load_policy(path)


def _rank(policy: Policy) -> tuple[float, int, int]:
    """By mean return, then the later one, then the lower seed."""
    evaluated = Evaluated.of(policy)
    return evaluated.mean_return, evaluated.step, -policy.provenance.seed


def _unwritable(path: Path, error: OSError) -> UprightError:
    return UprightError(f"{path}: cannot be written ({error.strerror})")


def _allow_open_files(seeds: int) -> None:
    """A lock is an open file, and there is one for each seed."""
    try:
        import resource
    except ImportError:  # on Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = seeds + 256
    if soft != resource.RLIM_INFINITY and soft < needed:
        within = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (within, hard))
