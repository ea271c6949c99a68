"""Frames as files: GIF, MP4."""

import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upright.errors import INSTALL_RENDER, UprightError

_GIF_SECONDS = 0.04  # per frame; browsers play a GIF's shorter delays slowly

Frame = NDArray[np.uint8]  # [height, width, 3]


class Film:
    """Frames of one size, encoded as they come: an episode may be long."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] | None = None

    def add(self, frame: Frame) -> None:
        """The next frame. Raises UprightError for one of another size than the first."""
        self._shape = self._shape or frame.shape
        if frame.shape != self._shape:
            sizes = [f"{width} x {height}" for height, width, _ in (self._shape, frame.shape)]
            raise UprightError(f"cannot film: render gave {sizes[0]} pixels, and then {sizes[1]}")

    def content(self) -> bytes:
        """The whole file."""
        raise NotImplementedError

    def close(self) -> None:
        """Frees what was needed on the way."""


class Gif(Film):
    """Gymnasium's pictures at half size, with as many frames as browsers show in time."""

    def __init__(self, dt: float, half: bool):
        super().__init__()
        try:
            from PIL import Image
        except ImportError:
            raise UprightError(f"a GIF needs Pillow; {INSTALL_RENDER}") from None
        self._image = Image
        self._half = half
        self._stride = max(1, round(_GIF_SECONDS / dt))
        self._delay = round(1000 * self._stride * dt)  # [ms]
        self._count = 0
        self._images: list[Any] = []  # of 32 colours: a few ten kilobytes each

    def add(self, frame: Frame) -> None:
        super().add(frame)
        self._count += 1
        if (self._count - 1) % self._stride:
            return
        image = self._image.fromarray(frame)
        if self._half:
            half = max(1, image.width // 2), max(1, image.height // 2)
            image = image.resize(half, self._image.Resampling.LANCZOS)
        self._images.append(image.quantize(32))

    def content(self) -> bytes:
        first, *others = self._images
        buffer = io.BytesIO()
        first.save(buffer, "GIF", save_all=True, append_images=others, duration=self._delay, loop=0)
        return buffer.getvalue()

    def close(self) -> None:
        self._images = []


class MP4(Film):
    """At full size, at the sampling rate."""

    def __init__(self, dt: float):
        super().__init__()
        self._rate: Any = 1 / dt  # not always whole, though the encoder's types say so
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) / "film.mp4"
        self._encoder: Any = None

    def add(self, frame: Frame) -> None:
        super().add(frame)
        if self._encoder is None:
            self._encoder = self._begin(frame)
        self._encoder.send(np.ascontiguousarray(frame))

    def content(self) -> bytes:
        self._encoder.close()
        return self._path.read_bytes()

    def close(self) -> None:
        if self._encoder is not None:
            self._encoder.close()
        self._folder.cleanup()

    def _begin(self, frame: Frame) -> Any:
        try:
            from imageio_ffmpeg import write_frames
        except ImportError:
            raise UprightError(f"an MP4 needs imageio-ffmpeg; {INSTALL_RENDER}") from None
        height, width, _ = frame.shape
        # Even sides are all that the encoder's colour format asks for.
        encoder = write_frames(str(self._path), (width, height), fps=self._rate, macro_block_size=2)
        with warnings.catch_warnings():
            # JAX, which a native task has started, warns of any fork; this child only executes
            # the encoder.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            encoder.send(None)
        return encoder
