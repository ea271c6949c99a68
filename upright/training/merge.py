"""Runs of the same training with other seeds, from several machines, made one."""

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from upright.calling import check_kind, names_checked, option
from upright.errors import UprightError
from upright.files import make_folder, unwritable, write_atomically
from upright.runs import Run, find_run, provenance
from upright.runs.folder import RunInfo, name_seeds, seed_folder
from upright.runs.seed_writer import SeedWriter
from upright.runs.writer import RunWriter, refuse_strange
from upright.training.config import Config


@names_checked
def merge(runs: Run | str | Path | Sequence[Run | str | Path], out: str | Path) -> Run:
    """Copies the seeds of two or more runs into a new one, and returns it.

    Its table, curve and best policy are those of all seeds; `resume` goes on with it. `out` must
    not exist or be empty. Raises UprightError if the runs have different settings or a seed in
    common, or one is being trained; then nothing is written.
    """
    check_kind("out", out, str | os.PathLike, "the path of a folder")
    if isinstance(runs, Run | str | os.PathLike):
        runs = [runs]
    parts, path = [find_run(run) for run in runs], Path(out)
    if len(parts) < 2:
        raise UprightError("one run alone; merging needs two or more")
    first = parts[0]
    for number, part in enumerate(parts[1:], start=1):
        _check_same(first, part)
        for before in parts[:number]:
            if common := set(before.seeds) & set(part.seeds):
                raise UprightError(f"{before.path} and {part.path} both have {name_seeds(common)}")
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UprightError(f"{path}: is not empty; choose another folder: {option('out')}")
    place = path.resolve()  # "." has no name
    # The same name each time: what a killed merge left there goes.
    unfinished = place.with_name(f".{place.name}.merging")
    try:
        make_folder(unfinished)
        writer = RunWriter(unfinished, _info_of_all(parts))
        with writer.locked():
            try:
                _copy(parts, writer)
                unfinished.rename(place)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    except (OSError, UprightError) as error:
        if isinstance(error, OSError):
            raise unwritable(path, error) from None
        raise UprightError(str(error).replace(str(unfinished), str(path))) from None
    return Run(path)


def _check_same(a: Run, b: Run) -> None:
    """Raises UprightError unless they are the same training."""
    one, other = (Config.of_run(run) for run in (a, b))
    if differences := one.differences(other):
        raise UprightError(f"{a.path} and {b.path} differ: {'; '.join(differences)}")
    if a.spec != b.spec:
        raise UprightError(f"{a.path} and {b.path}: {one.task} is not the same task (spec)")


def _copy(parts: Sequence[Run], writer: RunWriter) -> None:
    folder = writer.path
    shutil.rmtree(folder / "seeds", ignore_errors=True)
    write_atomically(folder / "run.json", writer.info.to_bytes())
    for part in parts:
        refuse_strange(part.path)
        for seed in part.seeds:
            source = seed_folder(part.path, seed)
            if not source.exists():
                continue  # it has not begun
            with contextlib.closing(SeedWriter(part.path, seed, made=False)):
                ignored = shutil.ignore_patterns(".*")
                shutil.copytree(source, seed_folder(folder, seed), ignore=ignored)
    writer.refresh_best()


def _info_of_all(parts: Sequence[Run]) -> RunInfo:
    """Of the oldest run, with the seeds and the warnings of all."""
    oldest = min((part.info for part in parts), key=lambda info: info.started)
    seeds = tuple(sorted(seed for part in parts for seed in part.seeds))
    warnings = dict.fromkeys(text for part in parts for text in part.info.warnings)
    return replace(
        oldest,
        command=provenance.command(),
        config=replace(oldest.config, seeds=seeds),
        warnings=tuple(warnings),
    )
