"""A picture of an episode without a drawing: its channels over time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from upright.spec import Choice, Spec

_CHANNELS, _INPUTS = 5, 3  # in a picture at most
_WIDTH, _ROW, _REST = 6.4, 1.0, 0.8  # of the picture, a channel, title and time axis [inch]
_OBSERVED, _INPUT = "#1f77b4", "#d62728"


@dataclass(frozen=True)
class Trace:
    """One quantity over an episode."""

    name: str
    unit: str
    values: Float[np.ndarray, " T"]
    is_input: bool = False  # it is held from one step to the next

    @property
    def label(self) -> str:
        """For an axis, its words one above the other."""
        unit = "" if self.unit == "1" else f"[{self.unit}]"
        return "\n".join(filter(None, [*self.name.rsplit(" ", 1), unit]))


def traces(
    spec: Spec, observations: Float[np.ndarray, "T O"], inputs: Float[np.ndarray, "T U"]
) -> list[Trace]:
    """The first channels and inputs of an episode of T observations; the last input is held."""
    channels = spec.observation.channels[:_CHANNELS]
    action = spec.action
    if isinstance(action, Choice):
        names = [(action.name, action.unit)]
    else:
        names = [(channel.name, channel.unit) for channel in action.channels[:_INPUTS]]
    return [
        *(Trace(c.name, c.unit, observations[:, i]) for i, c in enumerate(channels)),
        *(Trace(*name, inputs[:, i], is_input=True) for i, name in enumerate(names)),
    ]


def frames(
    title: str, some: Sequence[Trace], times: Float[np.ndarray, " T"], unit: str
) -> Iterator[NDArray[np.uint8]]:
    """A frame [height, width, 3] for each of T times: the traces, one above the other, so far."""
    figure = Figure(figsize=(_WIDTH, _ROW * len(some) + _REST), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(some), sharex=True, squeeze=False)[:, 0]
    lines = [_line(axis, trace, times) for axis, trace in zip(axes, some, strict=True)]
    axes[0].set_title(title, loc="left")
    axes[-1].set_xlabel(f"time [{unit}]")
    figure.align_ylabels(axes)
    canvas.draw()
    # All but the traces is drawn once: a whole figure takes twenty times as long.
    empty: Any = canvas.copy_from_bbox(figure.bbox)
    for end in range(1, len(times) + 1):
        canvas.restore_region(empty)
        for axis, line, trace in zip(axes, lines, some, strict=True):
            line.set_data(times[:end], trace.values[:end])
            axis.draw_artist(line)
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _line(axis: Any, trace: Trace, times: Float[np.ndarray, " T"]) -> Any:
    """Empty, on axes that are wide enough for all of it."""
    low, high = float(trace.values.min()), float(trace.values.max())
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    axis.set_xlim(times[0], max(times[-1], times[0] + 1e-9))
    axis.set_ylim(low - margin, high + margin)
    axis.set_ylabel(trace.label)
    axis.grid(alpha=0.3)
    style = {"drawstyle": "steps-post", "color": _INPUT} if trace.is_input else {"color": _OBSERVED}
    return axis.plot([], [], linewidth=1.5, animated=True, **style)[0]
