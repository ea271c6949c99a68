"""A run folder, to be written: by several processes, each with seeds of its own."""

import contextlib
import os
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from upright.calling import option
from upright.errors import UprightError
from upright.files import (
    is_unfinished,
    make_folder,
    remove_unfinished,
    unwritable,
    write_atomically,
)
from upright.policy import Policy, load_policy
from upright.runs import folder
from upright.runs.folder import Evaluated, RunConfig, RunInfo, SeedInfo
from upright.runs.held import is_held
from upright.runs.reader import Run
from upright.runs.seed_writer import SeedWriter, TakenError

_PATIENCE = 30.0  # with another process that refreshes the best policy [s]


class UsedError(UprightError):
    """A folder is not free for a new run."""


class RunWriter:
    """The seeds of a run that this process writes. A context, which gives them free."""

    def __init__(self, path: Path, info: RunInfo):
        """Of a run that exists; see `create`, `join` and `resume`."""
        self.path = path
        self.info = info
        self.seeds: dict[int, SeedWriter] = {}
        self.others: list[int] = []  # unfinished seeds that another process writes
        self._lock = FileLock(path / ".lock", timeout=_PATIENCE)  # may be taken twice
        self._made: list[Path] = []  # beside seeds: removed if nothing was learned, in this order

    @classmethod
    def create(cls, path: Path, info: RunInfo) -> "RunWriter":
        """A new run. Raises UprightError if the folder cannot be made, UsedError if it is used.

        A run of the same training that was killed before anything was learned begins anew.
        """
        content = info.to_bytes()  # what JSON cannot hold fails here, before anything is written
        _refuse_used(path, info.config)  # without leaving a lock in it
        writer = cls(path, info)
        writer._made = [place for place in (path, *path.parents) if not place.exists()]
        try:
            make_folder(path)
            with writer.locked():
                _refuse_used(path, info.config)  # nor has anybody been faster
                refuse_strange(path)
                remove_unfinished(path)
                inside = (path / name for name in ("run.json", "seeds", ".lock"))
                writer._made = [*inside, *writer._made]
                # In this order: whenever it is killed, the folder is good for a run or a resume.
                write_atomically(path / "run.json", content)
                writer._make_seeds(info.config.seeds)
        except BaseException:
            writer._discard()
            raise
        return writer

    @classmethod
    def join(cls, path: Path, seeds: Sequence[int]) -> "RunWriter":
        """More seeds of a run. Raises UprightError if it has one of them already."""
        refuse_strange(path)
        writer = cls(path, folder.read_run_info(path))
        with writer.locked():
            # Whoever began it may have given it up by now, and removed it.
            writer.info = folder.read_run_info(path)
            if there := sorted(set(seeds) & set(Run(path).seeds)):
                raise UprightError(
                    f"{path}: has {folder.name_seeds(there)} already; choose others"
                    f" ({option('seeds')})"
                )
            try:
                writer._make_seeds(seeds)
            except BaseException:
                writer._remove_made()
                raise
        return writer

    @classmethod
    def resume(cls, path: Path, steps: int | None, episodes: int | None) -> "RunWriter":
        """The seeds with something left to do, that no other process writes; maybe none."""

        def unfinished(seed: SeedInfo) -> bool:
            return seed.is_unfinished(steps, episodes)

        run = Run(path)
        refuse_strange(path)
        writer = cls(path, run.info)
        _allow_open_files(len(run.seeds))
        try:
            for seed in filter(unfinished, run.results):
                made = not folder.seed_folder(path, seed.seed).exists()
                try:
                    seed_writer = SeedWriter(path, seed.seed, made)
                except TakenError:
                    writer.others.append(seed.seed)
                    continue
                if unfinished(seed_writer.info):
                    writer.seeds[seed.seed] = seed_writer
                else:
                    seed_writer.close()
        except BaseException:
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
        try:
            self._lock.acquire()
        except Timeout:
            raise TakenError(f"{self.path}: another process holds {self.path / '.lock'}") from None
        except OSError as error:
            raise unwritable(self.path, error) from None
        try:
            yield
        finally:
            self._lock.release()

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
            if not seed.begun:
                seed.discard()
            elif seed.info.state == "running":
                with contextlib.suppress(UprightError):
                    seed.save_info(state=state, error=str(error) or None)

    def _close(self) -> None:
        for seed in self.seeds.values():
            seed.close()

    def _discard(self) -> None:
        """Removes what was made here, and nothing else; nobody joins meanwhile."""
        with contextlib.suppress(UprightError):
            if (self.path / ".lock").exists():
                with self.locked():
                    self._remove_made()
                return
        self._remove_made()

    def _remove_made(self) -> None:
        for seed in self.seeds.values():
            seed.discard()
        self._close()
        with contextlib.suppress(OSError):
            if self._made:
                (self.path / "seeds").rmdir()  # not empty: somebody has joined us
            for path in self._made:
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)


def _refuse_used(path: Path, config: RunConfig) -> None:
    """Raises UsedError unless a folder is free, apart from what a killed beginning left."""
    try:
        names = {place.name for place in path.iterdir() if not is_unfinished(place)} - {".lock"}
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from None
    if not names or (names <= {"run.json", "seeds"} and _is_killed_beginning(path, config)):
        return
    what = "already holds a run" if (path / "run.json").exists() else "is not empty"
    raise UsedError(
        f"{path}: {what}; choose another folder ({option('out')}), or add seeds to a run"
        f" ({option('join')})"
    )


def _is_killed_beginning(run: Path, config: RunConfig) -> bool:
    """Of the same training; nothing was learned, and nobody is at it."""
    try:
        same = folder.read_run_info(run).config == config
    except UprightError:
        return False
    seeds = folder.seeds_there(run)
    held = any(is_held(folder.lock_path(run, seed)) for seed in seeds)
    return same and not held and not any(run.rglob("*.safetensors"))


def refuse_strange(run: Path) -> None:
    """Raises UprightError where writing into a run would reach out of its folder or fail midway."""
    seeds = run / "seeds"
    for place in (run, seeds, *seeds.glob("*"), *seeds.glob("*/checkpoints")):
        if place.is_dir() and not os.access(place, os.W_OK | os.X_OK):
            raise UprightError(f"{place}: cannot be written (Permission denied)")
        for inside in place.glob("*"):
            if inside.is_symlink():
                raise UprightError(
                    f"{inside}: is a symbolic link; runs with links inside are not resumed"
                )
            written = inside.suffix in (".json", ".csv", ".safetensors") or inside.name == ".lock"
            if written and not inside.is_file():
                raise UprightError(f"{inside}: is not a file; move it away")
            if inside.name in ("seeds", "checkpoints") and not inside.is_dir():
                raise UprightError(f"{inside}: is not a folder; move it away")


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
