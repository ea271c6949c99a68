"""A greedy episode in Gymnasium's renderer: in a window, as GIF, as MP4.

Of a task without a picture a file shows the channels over time instead.
"""

import contextlib
import io
import math
import os
import sys
import tempfile
import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from upright.errors import INSTALL_RENDER, UprightError, UprightWarning
from upright.evaluation.episodes import command, make_env
from upright.figures import channels
from upright.files import make_folder, write_atomically
from upright.policy import Policy, load_policy

_NO_DISPLAY = "no display for a window; write a file instead: --gif FILE or --mp4 FILE"
_GIF_SECONDS = 0.04  # per frame; browsers play a GIF's shorter delays slowly
_MOST_FRAMES = 1_000  # of an episode that has no end: each takes almost a megabyte
_UNKNOWN_DT = 0.04  # the sampling time of a task that does not tell [s]

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Episode:
    """What was shown."""

    total: float  # undiscounted return
    steps: int
    seconds: float | None  # of the task's time, where its sampling time is known


def play(
    policy: Policy | str | Path,
    *,
    files: Sequence[str | Path] = (),
    task: str | None = None,
    seed: int = 0,
    randomised: bool = False,
) -> Episode:
    """Shows one episode of a policy, or of a policy file, in a window, or writes it to `files`.

    These end in .gif or .mp4, and show the channels over time if the task has no picture.
    `randomised`: with physics that are drawn as in the policy's training, if they were; else with
    their nominal values. The same `seed` gives the same start state. A file of an episode that
    has no end stops after 1,000 steps, with an UprightWarning.

    Raises UprightError if there is no display, or a file cannot be written.
    """
    policy = policy if isinstance(policy, Policy) else load_policy(policy)
    paths = [Path(path) for path in files]
    if seed < 0:
        raise UprightError(f"seed is {seed}; it must be at least 0")
    for path in paths:
        if path.suffix not in (".gif", ".mp4"):
            raise UprightError(f"{path}: a video ends in .gif or .mp4")
    if not paths:
        if not _has_display():
            raise UprightError(_NO_DISPLAY)
        # Where it is not set, SDL asks for it in a line of its own.
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
        if not _is_drawn(policy, task, "human"):
            raise UprightError(
                f"{policy.spec.task} has no picture for a window; write its channels over time to a"
                " file: --gif FILE or --mp4 FILE"
            )
        return _run(policy, task, seed, randomised, "human")[0]
    mode = "rgb_array" if _is_drawn(policy, task, "rgb_array") else None
    with _without_display():
        episode, frames = _run(policy, task, seed, randomised, mode)
    for path in paths:
        dt = policy.spec.dt or _UNKNOWN_DT
        content = _gif(frames, dt, mode) if path.suffix == ".gif" else _mp4(frames, dt)
        make_folder(path.parent)
        write_atomically(path, content)
    return episode


def _is_drawn(policy: Policy, task: str | None, mode: str) -> bool:
    """Whether its environment has such pictures."""
    with contextlib.closing(make_env(policy, task)) as env:
        return mode in env.metadata.get("render_modes", [])


def _run(
    policy: Policy, task: str | None, seed: int, randomised: bool, mode: str | None
) -> tuple[Episode, list[Frame]]:
    """One episode, and a frame for each observation unless it is shown in a window."""
    total, steps, ended = 0.0, 0, False
    endless = mode != "human" and policy.spec.episode_steps is None
    most = _MOST_FRAMES if endless else math.inf
    frames: list[Frame] = []
    seen: list[NDArray[np.float32]] = []
    try:
        with contextlib.closing(make_env(policy, task, randomised, render_mode=mode)) as env:
            observation, _ = env.reset(seed=seed)
            if mode == "human":
                _check_window()
            while not ended and steps < most:
                if mode == "rgb_array":
                    frames.append(cast(Frame, env.render()))
                seen.append(observation)
                observation, reward, terminated, truncated, _ = env.step(
                    command(policy, observation)
                )
                total, steps, ended = total + float(reward), steps + 1, terminated or truncated
            if mode == "rgb_array":
                frames.append(cast(Frame, env.render()))
    except gym.error.DependencyNotInstalled as error:
        missing = str(error).partition(",")[0]
        raise UprightError(f"cannot render: {missing}; {INSTALL_RENDER}") from None
    except Exception as error:
        # pygame may not be installed, so its errors are known by name alone.
        if type(error).__module__.partition(".")[0] != "pygame":
            raise
        raise UprightError(f"cannot render ({error})") from None
    if mode is None:
        frames = _channels(policy, np.stack([*seen, observation]))
    if not ended:
        what = f"{policy.spec.task} has no time limit: the video stops after {steps:,} steps"
        warnings.warn(what, UprightWarning, stacklevel=3)
    dt = policy.spec.dt
    return Episode(total, steps, None if dt is None else round(steps * dt, 9)), frames


def _channels(policy: Policy, observations: NDArray[np.float32]) -> list[Frame]:
    """A frame for each observation: all channels so far, and what the policy did."""
    inputs = np.reshape(policy.act(observations), (len(observations), policy.spec.input_size))
    inputs[-1] = inputs[-2]  # nothing was done after the last one
    times, unit = np.arange(len(observations)) * (policy.spec.dt or 1), "s"
    if policy.spec.dt is None:
        unit = "steps"
    some = channels.traces(policy.spec, observations, inputs)
    return [*channels.frames(policy.spec.task, some, times, unit)]


def _has_display() -> bool:
    names = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in names)


def _check_window() -> None:
    """A variable may name a display that is not there; then SDL draws, but nobody sees it."""
    import pygame

    driver = pygame.display.get_driver()
    if driver in ("dummy", "offscreen", "evdev") and os.environ.get("SDL_VIDEODRIVER") != driver:
        raise UprightError(_NO_DISPLAY)


@contextlib.contextmanager
def _without_display() -> Generator[None]:
    """Frames need no display; but where there is none, SDL must be told, or it complains."""
    drivers = {} if _has_display() else {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
    os.environ.update(drivers)
    try:
        yield
    finally:
        for name in drivers:
            del os.environ[name]


def _gif(frames: list[Frame], dt: float, mode: str | None) -> bytes:
    """Gymnasium's pictures at half size, with as many frames as browsers show in time."""
    try:
        from PIL import Image
    except ImportError:
        raise UprightError(f"a GIF needs Pillow; {INSTALL_RENDER}") from None
    stride = max(1, round(_GIF_SECONDS / dt))
    images = [Image.fromarray(frame) for frame in frames[::stride]]
    if mode:
        half = (images[0].width // 2, images[0].height // 2)
        images = [image.resize(half, Image.Resampling.LANCZOS) for image in images]
    images = [image.quantize(32) for image in images]
    buffer = io.BytesIO()
    delay = round(1000 * stride * dt)  # [ms]
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=delay, loop=0)
    return buffer.getvalue()


def _mp4(frames: list[Frame], dt: float) -> bytes:
    try:
        import imageio.v3 as imageio

        with warnings.catch_warnings():
            # JAX, which a native task has started, warns of any fork; this child only executes
            # the encoder.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            # Even sides are all that the encoder's colour format asks for.
            return imageio.imwrite(
                "<bytes>", np.stack(frames), extension=".mp4", fps=1 / dt, macro_block_size=2
            )
    except ImportError:  # also when imageio is there and its encoder is not
        raise UprightError(f"an MP4 needs imageio-ffmpeg; {INSTALL_RENDER}") from None
