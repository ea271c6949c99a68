"""Learning curves: data first, then the picture."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from upright.errors import UprightError
from upright.evaluation import statistics
from upright.files import make_folder, write_atomically
from upright.runs import Run

_POINTS = 300  # of an average curve at most: as many as a picture shows
_WINDOW = 20  # episodes in the moving average of a single seed
# Okabe and Ito's colours, told apart by the colour-blind; the lines differ in style, too.
_MEAN, _IQM, _SEED = "#0072B2", "#D55E00", "#7f7f7f"

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """Returns of seeds on a common axis; where a seed has none yet, its first.

    A seed that diverged is in `raw` alone: it would end the axis for all others.
    """

    x: Values  # [point], episodes or steps
    returns: Values  # [seed, point]
    label: str  # of the axis
    raw: list[tuple[Values, Values]]  # for each seed: x and return of each of its episodes


def by_episode(run: Run, seeds: Sequence[int]) -> Curves:
    """Up to the last episode that every seed has; many episodes are averaged in equal bins."""
    raw = [(episodes["episode"], episodes["return"]) for episodes in _episodes(run, seeds)]
    kept = [raw[index] for index in _comparable(run, seeds)]
    common = min(len(returns) for _, returns in kept)
    bin_size = -(-common // _POINTS)
    points = common // bin_size
    binned = [
        returns[: points * bin_size].reshape(points, bin_size).mean(axis=1) for _, returns in kept
    ]
    x = np.arange(points, dtype=np.float64) * bin_size + (bin_size + 1) / 2
    label = "episode" if bin_size == 1 else f"episode (averages over {bin_size} episodes)"
    return Curves(x, np.array(binned), label, raw)


def by_step(run: Run, seeds: Sequence[int]) -> Curves:
    """At each step the return of the last ended episode, up to the last step that all made."""
    raw = [(episodes["step"], episodes["return"]) for episodes in _episodes(run, seeds)]
    kept = [raw[index] for index in _comparable(run, seeds)]
    x = np.linspace(0, min(steps[-1] for steps, _ in kept), _POINTS)
    returns = [
        returns[np.maximum(np.searchsorted(steps, x, side="right") - 1, 0)]
        for steps, returns in kept
    ]
    return Curves(x, np.array(returns), "environment steps", raw)


def _episodes(run: Run, seeds: Sequence[int]) -> list[dict[str, Values]]:
    """The table of the episodes, one for each seed."""
    table = run.table("episodes")
    parts = [
        {name: column[table["seed"] == seed] for name, column in table.items()} for seed in seeds
    ]
    for seed, part in zip(seeds, parts, strict=True):
        if not len(part["episode"]):
            raise UprightError(f"{run.path}: seed {seed} has no finished episode to plot")
    return parts


def _comparable(run: Run, seeds: Sequence[int]) -> list[int]:
    """Indices of the seeds that went to the end; of all if none did."""
    diverged = {result["seed"] for result in run.results if result["state"] == "diverged"}
    indices = [index for index, seed in enumerate(seeds) if seed not in diverged]
    return indices or list(range(len(seeds)))


def draw(axes: Axes, curves: Curves, solved: float | None = None) -> None:
    """Every seed faint, mean and interquartile mean with interval; of one seed a moving average."""
    several, averaged = len(curves.raw) > 1, len(curves.returns)
    for x, returns in curves.raw:
        axes.plot(
            x, returns, color=_SEED, linewidth=0.6, alpha=0.25 if several else 0.5, rasterized=True
        )
    if several:
        diverged = len(curves.raw) - averaged
        left_out = f", without {diverged} that diverged" if diverged else ""
        mean, middle = curves.returns.mean(axis=0), statistics.interquartile_mean(curves.returns)
        # The generator is fixed, so that the same run makes the same picture.
        low, high = statistics.interval([curves.returns], np.random.default_rng(0))
        axes.fill_between(curves.x, low, high, color=_IQM, alpha=0.25, linewidth=0)
        axes.plot(curves.x, middle, color=_IQM, label="interquartile mean, 95 % interval")
        axes.plot(
            curves.x, mean, color=_MEAN, linestyle="--", label=f"mean of {averaged} seeds{left_out}"
        )
    else:
        x, returns = curves.raw[0]
        average = statistics.moving_average(returns, _WINDOW)
        axes.plot(x, average, color=_IQM, label=f"average of {_WINDOW} episodes")
    if solved is not None:
        axes.axhline(solved, color="black", linewidth=0.8, linestyle=":", label="solved")
    axes.set_xlabel(curves.label)
    axes.set_xlim(0, curves.x[-1])
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)


def plot(run: Run, folder: Path | None = None, seed: int | None = None) -> list[Path]:
    """Writes the curve of all seeds, or of one, as PNG and SVG; returns their paths.

    They go into the run's figures/ unless a folder is given. Raises UprightError if the run has no
    such seed or no finished episode, or the folder cannot be written.
    """
    if seed is not None and seed not in run.seeds:
        raise UprightError(
            f"{run.path}: has no seed {seed}; it has {', '.join(map(str, run.seeds))}"
        )
    seeds = run.seeds if seed is None else [seed]
    folder = folder or run.path / "figures"
    solved = run.info["spec"]["solved_return"]
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    draw(left, by_episode(run, seeds), solved)
    draw(right, by_step(run, seeds), solved)
    left.set_ylabel("return of an episode while learning")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=3)
    config = run.info["config"]
    who = f", seed {seeds[0]}" if len(seeds) == 1 else ""
    figure.suptitle(f"{config['task']}, preset {run.preset}{who}", fontsize="medium")
    name = "curve" if seed is None else f"curve-seed-{seed:02d}"
    paths = [folder / f"{name}.{ending}" for ending in ("png", "svg")]
    make_folder(folder)
    for path in paths:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=path.suffix[1:], dpi=150)
        write_atomically(path, buffer.getvalue())
    return paths
