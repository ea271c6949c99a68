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

from upright.calling import is_from_command_line, names_checked, option
from upright.errors import UprightError
from upright.evaluation import statistics
from upright.files import make_folder, write_atomically
from upright.runs import Run, find_run

_POINTS = 300  # of an average curve at most: as many as a picture shows
_WINDOW = 20  # episodes in the moving average of a single seed
# Okabe and Ito's colours, told apart by the colour-blind; the lines differ in style, too.
_MEAN, _IQM, _SEED = "#0072B2", "#D55E00", "#7f7f7f"

Values = NDArray[np.float64]
_Curve = tuple[Values, Values]  # x and return of one seed


@dataclass(frozen=True)
class Curves:
    """Returns of seeds on a common axis; where a seed has none yet, its first.

    A seed that diverged is in `single` alone: it would end the axis for all others.
    """

    x: Values  # [point], episodes or steps
    returns: Values  # [seed, point]
    label: str  # of the axis
    single: list[_Curve]  # for each seed: x and return of its own episodes
    window: int  # episodes of which each return is the average: 1, or as many as a picture needs


def by_episode(run: Run, seeds: Sequence[int]) -> Curves:
    """Up to the last episode that every seed has."""
    single, kept, window = _averages(run, seeds, "episode")
    common = min(len(x) for x, _ in kept)
    returns = np.array([values[:common] for _, values in kept])
    return Curves(kept[0][0][:common], returns, "episode", single, window)


def by_step(run: Run, seeds: Sequence[int]) -> Curves:
    """At each step the return of the last ended episode, up to the last step that all made."""
    single, kept, window = _averages(run, seeds, "step")
    x = np.linspace(0, min(steps[-1] for steps, _ in kept), _POINTS)
    returns = [
        values[np.maximum(np.searchsorted(steps, x, side="right") - 1, 0)] for steps, values in kept
    ]
    return Curves(x, np.array(returns), "environment steps", single, window)


def _averages(run: Run, seeds: Sequence[int], axis: str) -> tuple[list[_Curve], list[_Curve], int]:
    """Curves of all seeds, and of those that went to the end (of all, if none did).

    Many episodes are averaged in bins of equal number, the window.
    """
    table = run.table("episodes")
    diverged = {result.seed for result in run.results if result.state == "diverged"}
    masks = {seed: table["seed"] == seed for seed in seeds}
    curves = {seed: (table[axis][mask], table["return"][mask]) for seed, mask in masks.items()}
    for seed, (x, _) in curves.items():
        if not len(x) and (seed not in diverged or len(seeds) == 1):
            raise UprightError(f"{run.path}: seed {seed} has no finished episode to plot")
    curves = {seed: curve for seed, curve in curves.items() if len(curve[0])}
    if not curves:
        raise UprightError(f"{run.path}: no seed has a finished episode to plot")
    whole = [seed for seed in curves if seed not in diverged] or list(curves)
    counts = [len(curves[seed][0]) for seed in whole]
    window = min(-(-max(counts) // _POINTS), *counts)
    binned = {seed: _bin(*curve, window) for seed, curve in curves.items()}
    return list(binned.values()), [binned[seed] for seed in whole], window


def _bin(x: Values, values: Values, window: int) -> _Curve:
    averages = statistics.moving_average(values, window)
    return x[window - 1 :: window], averages[window - 1 :: window]


def draw(axes: Axes, curves: Curves, solved: float | None = None) -> None:
    """Every seed faint, mean and interquartile mean with interval; of one seed a moving average."""
    several, averaged = len(curves.single) > 1, len(curves.returns)
    for number, (x, values) in enumerate(curves.single):
        label = "each seed" if several and not number else None
        alpha = 0.3 if several else 0.6
        # Rasterised, or twenty seeds of thousands of episodes make an SVG of many megabytes.
        axes.plot(x, values, color=_SEED, linewidth=0.6, alpha=alpha, label=label, rasterized=True)
    if several:
        diverged = len(curves.single) - averaged
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
        x, values = curves.single[0]
        average = statistics.moving_average(values, _WINDOW)
        label = f"average of {_WINDOW * curves.window} episodes"
        axes.plot(x, average, color=_IQM, label=label)
    if solved is not None:
        axes.axhline(solved, color="black", linewidth=0.8, linestyle=":", label="solved")
    axes.set_xlabel(curves.label)
    axes.set_xlim(0, curves.x[-1])
    if min(values.min() for _, values in curves.single) >= 0:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)


@names_checked
def plot(
    run: Run | str | Path, folder: str | Path | None = None, seed: int | None = None
) -> list[Path]:
    """Writes the curve of all seeds, or of one, as PNG and SVG; returns their paths.

    They go into the run's figures/ unless a folder is given. Raises UprightError if the run has no
    such seed or no finished episode, or the folder cannot be written.
    """
    run = find_run(run)
    if seed is not None and seed not in run.seeds:
        raise UprightError(
            f"{run.path}: has no seed {seed}; it has {', '.join(map(str, run.seeds))}"
        )
    seeds = run.seeds if seed is None else [seed]
    if folder is None and (run.path / "figures").is_symlink():
        where = option("out") if is_from_command_line() else "folder"
        raise UprightError(
            f"{run.path / 'figures'}: is a symbolic link, and may lead out of the run; choose"
            f" another folder: {where}"
        )
    folder = Path(folder) if folder is not None else run.path / "figures"
    solved = run.spec.solved_return
    episodes, steps = by_episode(run, seeds), by_step(run, seeds)
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    draw(left, episodes, solved)
    draw(right, steps, solved)
    many = f"\n(averages over {episodes.window} episodes)" if episodes.window > 1 else ""
    left.set_ylabel(f"return of an episode while learning{many}")
    figure.legend(
        *left.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=4
    )
    who = f", seed {seeds[0]}" if len(seeds) == 1 else ""
    title = f"{run.info.config.task}, preset {run.preset}{who}"
    figure.suptitle(title, fontsize="medium")
    name = "curve" if seed is None else f"curve-seed-{seed:02d}"
    paths = [folder / f"{name}.{ending}" for ending in ("png", "svg")]
    make_folder(folder)
    for path in paths:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=path.suffix[1:], dpi=150)
        write_atomically(path, buffer.getvalue())
    return paths
