"""What a run folder holds, typed, and where each thing lies.

run.json  best.safetensors
seeds/07/ seed.json  episodes.csv  evaluations.csv  learning.csv
          kept.safetensors  last.safetensors  checkpoints/
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from upright import plain, tensors
from upright.errors import UprightError
from upright.files import reason
from upright.parameters import check_settings, is_finite, setting
from upright.policy import Policy
from upright.runs.provenance import Platform
from upright.runs.typed import from_plain
from upright.seeds import check_seeds

_LARGEST_FILE = 1 << 26  # bytes
RUN_FORMAT, SEED_FORMAT, VERSION = "upright-run", "upright-seed", 3

EPISODES = ("episode", "step", "return", "length", "terminated")
EVALUATIONS = ("step", "episodes", "mean_return", "min_return", "max_return", "kept")
COLUMNS = {"episodes": EPISODES, "evaluations": EVALUATIONS}  # of tables that every agent has

State = Literal["running", "finished", "interrupted", "diverged", "failed"]
Which = Literal["kept", "last"]  # policy of a seed: best by evaluation, or latest one evaluated


class DamagedError(UprightError):
    """A file of a run is not what was written."""


@dataclass(frozen=True)
class RunConfig:
    """What was asked of a training, as it is written; see `training.config.Config`.

    Raises UprightError for numbers that cannot be asked for.
    """

    task: str
    runner: str
    preset: str
    agent: dict[str, Any]  # its name and its settings
    seeds: tuple[int, ...]
    steps: int | None = setting(at_least=1, below=2**31)
    episodes: int | None = setting(at_least=1, below=2**31)
    evaluate_every: int = setting(at_least=1, below=2**31)
    evaluation_episodes: int = setting(at_least=1, at_most=100_000)
    checkpoint_every: int = setting(at_least=1, below=2**31)
    final_episodes: int = setting(100, at_least=1, at_most=100_000)
    max_steps: int | None = setting(None, at_least=1, below=2**31)
    single: bool = False
    physics: dict[str, float | tuple[float, ...]] = field(
        default_factory=dict[str, float | tuple[float, ...]]
    )
    randomise: dict[str, tuple[float, float]] = field(  # lowest, highest
        default_factory=dict[str, tuple[float, float]]
    )
    env: dict[str, Any] = field(default_factory=dict[str, Any])  # arguments of the environment

    def __post_init__(self) -> None:
        check_settings(self)
        check_seeds(self.seeds)
        if (self.steps is None) == (self.episodes is None):
            given = "neither steps nor" if self.steps is None else "both steps and"
            raise UprightError(f"{given} episodes are given; a training has one budget")
        if not isinstance(self.agent.get("name"), str):
            raise UprightError("the agent has no name")
        for name, value in {**self.physics, **self.randomise}.items():
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(map(is_finite, numbers)):
                raise UprightError(f"{name} is {value}; it must be finite in single precision")


@dataclass(frozen=True)
class RunInfo:
    """run.json: written once; a larger budget is the only thing that changes in it."""

    started: str  # when
    command: tuple[str, ...] | None  # None where a program or a notebook asked
    config: RunConfig
    changes: tuple[str, ...]  # the agent's settings that are not the preset's: "gamma 0.9"
    spec: dict[str, Any]  # of the task; see `Spec.to_dict`
    platform: Platform
    warnings: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """The file's content."""
        return _to_json(RUN_FORMAT, self)


@dataclass(frozen=True)
class Evaluated:
    """A policy's evaluation in the course of the training, at some step of its seed."""

    step: int = setting(at_least=0)
    mean_return: float = setting()
    min_return: float = setting()
    max_return: float = setting()
    episodes: int = setting(at_least=1)

    def __post_init__(self) -> None:
        check_settings(self)

    @classmethod
    def of(cls, policy: Policy) -> "Evaluated":
        """As the policy itself tells."""
        provenance = policy.provenance
        if provenance.evaluation is None:
            raise UprightError(f"the policy of seed {provenance.seed} was never evaluated")
        return cls(step=provenance.step, **asdict(provenance.evaluation))


@dataclass(frozen=True)
class FinalEvaluation:
    """Of the kept policy in Gymnasium, after the training: `Evaluation.summary`."""

    mean_return: float
    worst_return: float
    worst_reset_seed: int
    std_return: float
    mean_length: float
    episodes: int
    cut_episodes: int = 0  # that would not end


@dataclass(frozen=True)
class Stint:
    """What one process did for a seed."""

    started: str  # when
    command: tuple[str, ...] | None
    platform: Platform
    at_step: int = setting(at_least=0)  # where this seed began
    steps: int = setting(0, at_least=0)  # of all seeds of the process
    compile_seconds: float = setting(0.0, at_least=0)  # of the process, as is the next
    training_seconds: float = setting(0.0, at_least=0)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class SeedInfo:
    """seed.json: how far one seed is, how it ended, and who trained it."""

    seed: int
    state: State = "running"
    steps: int = setting(0, at_least=0)  # of the environment
    episodes: int = setting(0, at_least=0)  # finished
    kept: Evaluated | None = None
    last: Evaluated | None = None
    final_evaluation: FinalEvaluation | None = None  # with the nominal physics
    # with physics drawn as in the training, if they were randomised
    randomised_evaluation: FinalEvaluation | None = None
    error: str | None = None  # why it failed
    warnings: tuple[str, ...] = ()
    stints: tuple[Stint, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self)
        check_seeds([self.seed])

    def is_unfinished(self, steps: int | None, episodes: int | None) -> bool:
        """Whether there is something left to do for a budget."""
        if self.state not in ("finished", "diverged"):
            return True
        if self.kept and not self.final_evaluation:
            return True
        spent = self.steps >= (steps or 0) and self.episodes >= (episodes or 0)
        return self.state == "finished" and not spent

    def to_bytes(self) -> bytes:
        """The file's content."""
        return _to_json(SEED_FORMAT, self)


def read_run_info(run: Path) -> RunInfo:
    """Raises UprightError if this is no run folder, a damaged one or one of another version."""
    if not _is_there(run / "run.json"):
        raise UprightError(f"{run}: not a run folder (run.json: No such file or directory)")
    return _from_json(RUN_FORMAT, RunInfo, run, "run.json")


def read_seed_info(run: Path, seed: int) -> SeedInfo:
    """Of a seed that has not begun: nothing done yet.

    Raises UprightError if it is damaged, of another version or of another seed.
    """
    place = seed_folder(run, seed)
    if not _is_there(place / "seed.json"):
        return SeedInfo(seed)
    info: SeedInfo = _from_json(SEED_FORMAT, SeedInfo, place, "seed.json")
    if info.seed != seed:
        raise UprightError(f"{place}: holds seed {info.seed}; was it renamed?")
    return info


def seed_folder(run: Path, seed: int) -> Path:
    """Where one seed lies."""
    return run / "seeds" / f"{seed:02d}"


def policy_path(run: Path, seed: int, which: Which = "kept") -> Path:
    """Where a seed's kept policy lies, or its last one."""
    return seed_folder(run, seed) / f"{which}.safetensors"


def lock_path(run: Path, seed: int) -> Path:
    """What the process that writes a seed holds locked."""
    return seed_folder(run, seed) / ".lock"


def way_out(seed: Path) -> str:
    """Where a seed's folder holds nothing to go on from."""
    return f"put the file back, or remove {seed} and resume: the seed then begins again"


def best_path(run: Path) -> Path:
    """Where the best kept policy of all seeds lies."""
    return run / "best.safetensors"


def seeds_there(run: Path) -> list[int]:
    """The seeds that have a folder, in order; of other names nothing is made."""
    names = (path.name for path in (run / "seeds").glob("*"))
    seeds = {int(name) for name in names if name.isdecimal() and len(name) <= 10}
    return sorted(seed for seed in seeds if seed < 2**32 and seed_folder(run, seed).is_dir())


def name_seeds(seeds: Iterable[int]) -> str:
    """ "seed 3", "seeds 0-3, 7": neighbours together."""
    ordered = sorted(seeds)
    spans: list[list[int]] = []
    for seed in ordered:
        if spans and spans[-1][1] == seed - 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    texts = (str(first) if first == last else f"{first}-{last}" for first, last in spans)
    return f"seed{'s' if len(ordered) > 1 else ''} {', '.join(texts)}"


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError) as error:
        raise UprightError(f"{path}: cannot be read ({reason(error)})") from None


def _to_json(kind: str, info: RunInfo | SeedInfo) -> bytes:
    header = {"format": kind, "version": VERSION}
    text = json.dumps({**header, **asdict(info)}, indent=2, allow_nan=False, ensure_ascii=False)
    return text.encode(errors="replace")  # a file's name need not be text


def _from_json(kind: str, info: Any, folder: Path, name: str) -> Any:
    content = tensors.read(folder / name, _LARGEST_FILE)
    try:
        members = plain.typed(plain.parse(content), dict)
        if members.pop("format") != kind:
            raise ValueError(f"its format is not {kind}")
        version = plain.count(members.pop("version"))
        if version == VERSION:
            return from_plain(info, members)
    except KeyError as error:
        raise DamagedError(f"{folder}: {name} is damaged (it has no {error})") from None
    except (TypeError, ValueError, UprightError) as error:
        raise DamagedError(f"{folder}: {name} is damaged ({error})") from None
    raise UprightError(
        f"{folder}: {kind.removeprefix('upright-')} format {version}; this version of upright"
        f" reads {VERSION}"
    )


def new_folders(task: str, preset: str) -> Iterator[Path]:
    """That are not there yet: named by the second, with a number where several begin in one."""
    safe = re.sub(r"[^\w.-]+", "-", task).strip("-")  # an id may have a colon or a slash
    name = f"{safe}-{preset}-{datetime.now():%Y%m%d-%H%M%S}"
    numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    paths = (Path("runs") / f"{name}{number}" for number in numbers)
    return (path for path in paths if not path.exists())
