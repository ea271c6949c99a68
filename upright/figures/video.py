"""A greedy episode in Gymnasium's renderer: in a window, as GIF, as MP4.

Of a task without a picture a file shows the channels over time instead.
"""

import contextlib
import os
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from upright.bridge.factory import Factory
from upright.calling import check_kind, is_from_command_line, names_checked, whole
from upright.errors import INSTALL_RENDER, UprightError, UprightWarning
from upright.evaluation.conditions import Conditions, conditions, open_env
from upright.evaluation.players import Moment, allowed, joined_masks, moments
from upright.figures import channels
from upright.figures.films import MP4, Film, Frame, Gif
from upright.files import make_folder, write_atomically
from upright.policy import Policy
from upright.runs import Run, find_policy
from upright.tasks.catalogue import Physics
from upright.windows import check_display, check_window, has_display

_UNKNOWN_DT = 0.04  # the sampling time of a task that does not tell [s]


@dataclass(frozen=True)
class Episode:
    """What was shown."""

    total: float  # undiscounted return
    steps: int
    seconds: float | None  # of the task's time, where its sampling time is known
    changes: tuple[str, ...] = ()  # of what the policy was trained with, in words


@names_checked
def play(
    policy: Policy | Run | str | Path,
    *,
    files: str | Path | Sequence[str | Path] = (),
    task: str | Factory | None = None,
    seed: int = 0,
    randomised: bool = False,
    max_steps: int | None = None,
    physics: Physics | None = None,
    env: Mapping[str, Any] | None = None,
) -> Episode:
    """Shows one episode in a window, or writes it to `files`.

    `policy`, `task`, `physics`, `env`: as in `evaluate`.

    These end in .gif or .mp4, and show the channels over time if the task has no picture.
    `randomised`: with physics that are drawn as in the policy's training, if they were; else with
    their nominal values. The same `seed` gives the same start state. The episode is cut off after
    `max_steps`; if it is not given, after 1,000 where the task has no time limit, with an
    UprightWarning.

    Raises UprightError if there is no display, or a file cannot be written.
    """
    policy = find_policy(policy)
    where = conditions(policy, task, randomised, physics, env)
    names = files if isinstance(files, Sequence) and not isinstance(files, str) else [files]
    for name in names:
        check_kind("files", name, str | os.PathLike, "paths of videos")
    paths = [Path(name) for name in names]
    seed = whole("seed", seed, at_least=0)
    if max_steps is not None:
        max_steps = whole("max_steps", max_steps, at_least=1)
    for path in paths:
        if path.suffix not in (".gif", ".mp4"):
            raise UprightError(f"{path}: a video ends in .gif or .mp4")
    if not paths:
        check_display(_instead())
        if not _is_drawn(policy, where, "human"):
            raise UprightError(
                f"{policy.spec.task} has no picture for a window; write its channels over time to a"
                f" file: {_files()}"
            )
        return _run(policy, where, seed, max_steps, "human")
    mode = "rgb_array" if _is_drawn(policy, where, "rgb_array") else None
    dt = policy.spec.dt or _UNKNOWN_DT
    with contextlib.ExitStack() as stack:
        stack.enter_context(_without_display())
        films = [
            Gif(dt, half=mode is not None) if path.suffix == ".gif" else MP4(dt) for path in paths
        ]
        for film in films:
            stack.callback(film.close)
        episode = _run(policy, where, seed, max_steps, mode, films)
        contents = [film.content() for film in films]
    for path, content in zip(paths, contents, strict=True):
        make_folder(path.parent)
        write_atomically(path, content)
    return episode


def _is_drawn(policy: Policy, where: Conditions, mode: str) -> bool:
    """Whether its environment has such pictures. What there is to warn of is said when it plays."""
    with (
        warnings.catch_warnings(action="ignore"),
        contextlib.closing(open_env(policy, where)) as env,
    ):
        return mode in env.metadata.get("render_modes", [])


def _run(
    policy: Policy,
    where: Conditions,
    seed: int,
    max_steps: int | None,
    mode: str | None,
    films: Sequence[Film] = (),
) -> Episode:
    """One episode; a frame for each observation goes to each film as soon as it is drawn."""
    now = None
    seen: list[Moment] = []
    env = open_env(policy, where, render_mode=mode)
    with contextlib.closing(env), _renderer():
        for now in moments(env, policy, seed, max_steps):
            if mode == "human":
                if not now.steps:
                    check_window(_instead())
            elif mode:
                _add(films, env.render())
            else:
                seen.append(now)
    assert now is not None, "an episode has a beginning"
    if seen:
        for frame in _channels(policy, seen):
            _add(films, frame)
    if not now.ended:
        what = f"{where.task}: the episode had no end; it was cut off"
        warnings.warn(f"{what} after {now.steps:,} steps", UprightWarning, stacklevel=3)
    dt = policy.spec.dt
    seconds = None if dt is None else round(now.steps * dt, 9)
    return Episode(now.total, now.steps, seconds, where.changes)


def _add(films: Sequence[Film], frame: Frame) -> None:
    for film in films:
        film.add(frame)


@contextlib.contextmanager
def _renderer() -> Generator[None]:
    """In this context a renderer that is missing, or fails, is an UprightError."""
    try:
        yield
    except gym.error.DependencyNotInstalled as error:
        missing = str(error).partition(",")[0]
        raise UprightError(f"cannot render: {missing}; {INSTALL_RENDER}") from None
    except UprightError:
        raise
    except Exception as error:
        # pygame may not be installed, so its errors are known by name alone.
        if type(error).__module__.partition(".")[0] != "pygame":
            raise
        raise UprightError(f"cannot render ({error})") from None


def _channels(policy: Policy, seen: Sequence[Moment]) -> Iterator[Frame]:
    """A frame for each moment: all channels so far, and what the policy did."""
    observations = np.stack([now.observation for now in seen])
    mask = allowed(policy, observations, joined_masks([now.mask for now in seen]))
    did = policy.act(observations, mask)
    inputs = np.reshape(did, (len(observations), policy.spec.input_size))
    inputs[-1] = inputs[-2]  # nothing was done after the last one
    times, unit = np.arange(len(observations)) * (policy.spec.dt or 1), "s"
    if policy.spec.dt is None:
        unit = "steps"
    some = channels.traces(policy.spec, observations, inputs)
    return channels.frames(policy.spec.task, some, times, unit)


def _instead() -> str:
    return f"write a file instead: {_files()}"


def _files() -> str:
    return "--gif FILE or --mp4 FILE" if is_from_command_line() else 'files=["episode.gif"]'


@contextlib.contextmanager
def _without_display() -> Generator[None]:
    """Frames need no display; but where there is none, SDL must be told, or it complains."""
    drivers = {} if has_display() else {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
    os.environ.update(drivers)
    try:
        yield
    finally:
        for name in drivers:
            del os.environ[name]
