"""A greedy episode in Gymnasium's renderer: in a window, as GIF, as MP4."""

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upright.errors import UprightError
from upright.evaluation.episodes import make_env
from upright.files import write_atomically
from upright.policy import Policy

_INSTALL = 'install the extra: pip install "upright[render]"'
_GIF_SECONDS = 0.04  # per frame; browsers play a GIF's shorter delays slowly

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Episode:
    """What was shown."""

    total: float  # undiscounted return
    steps: int
    seconds: float  # of the task's time


def play(
    policy: Policy, *, files: Sequence[Path] = (), task: str | None = None, seed: int = 0
) -> Episode:
    """Shows one episode in a window, or writes it to `files` (.gif or .mp4).

    Raises UprightError if there is no display, or a file cannot be written.
    """
    for path in files:
        if path.suffix not in (".gif", ".mp4"):
            raise UprightError(f"{path}: a video ends in .gif or .mp4")
        _make_folder(path.parent)
    if not _has_display():
        if not files:
            raise UprightError(
                "no display for a window; write a file instead: --gif FILE or --mp4 FILE"
            )
        # Frames need no display either; without this SDL complains on the way.
        os.environ.update(SDL_VIDEODRIVER="dummy", SDL_AUDIODRIVER="dummy")
    mode = "rgb_array" if files else "human"
    frames: list[Frame] = []
    env = make_env(policy, task, render_mode=mode)
    try:
        total, steps = _run(env, policy, seed, frames if files else None)
    finally:
        env.close()
    for path in files:
        encode = _gif if path.suffix == ".gif" else _mp4
        write_atomically(path, encode(frames, policy.spec.dt))
    return Episode(total, steps, round(steps * policy.spec.dt, 9))


def _run(env: Any, policy: Policy, seed: int, frames: list[Frame] | None) -> tuple[float, int]:
    """One episode; appends a frame for each observation."""
    total, steps, ended = 0.0, 0, False
    try:
        observation, _ = env.reset(seed=seed)
        while not ended:
            if frames is not None:
                frames.append(env.render())
            observation, reward, terminated, truncated, _ = env.step(policy.act(observation))
            total, steps, ended = total + float(reward), steps + 1, terminated or truncated
    except Exception as error:
        # Gymnasium's renderer fails with errors of its own and of pygame, which may not be there.
        if type(error).__module__.partition(".")[0] in ("gymnasium", "pygame"):
            raise UprightError(f"cannot render ({error}); {_INSTALL}") from None
        raise
    if frames is not None:
        frames.append(env.render())
    return total, steps


def _has_display() -> bool:
    names = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in names)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UprightError(f"{folder}: cannot be written ({error.strerror})") from None


def _gif(frames: list[Frame], dt: float) -> bytes:
    """At half size, with as many frames as browsers show in time."""
    try:
        from PIL import Image
    except ImportError:
        raise UprightError(f"a GIF needs Pillow; {_INSTALL}") from None
    stride = max(1, round(_GIF_SECONDS / dt))
    images = [Image.fromarray(frame) for frame in frames[::stride]]
    half = (images[0].width // 2, images[0].height // 2)
    images = [image.resize(half, Image.Resampling.LANCZOS).quantize(32) for image in images]
    buffer = io.BytesIO()
    delay = round(1000 * stride * dt)  # [ms]
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=delay, loop=0)
    return buffer.getvalue()


def _mp4(frames: list[Frame], dt: float) -> bytes:
    try:
        import imageio.v3 as imageio

        # Even sides are all that the encoder's colour format asks for.
        return imageio.imwrite(
            "<bytes>", np.stack(frames), extension=".mp4", fps=1 / dt, macro_block_size=2
        )
    except ImportError:  # also when imageio is there and its encoder is not
        raise UprightError(f"an MP4 needs imageio-ffmpeg; {_INSTALL}") from None
