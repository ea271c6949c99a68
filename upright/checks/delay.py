"""A hidden delay: do earlier actions say something about the next step that is not yet known?

Given observation and action, an earlier action tells nothing more about the next observation of a
healthy task. So each channel's change is predicted by ridge regression from the observation and
the action, once without and once with the action k steps before, and judged on held-out steps.
"""

import numpy as np
from jaxtyping import Bool, Float

from upright.checks.recording import Recording
from upright.finding import Finding
from upright.spec import Choice, Continuous

LAGS = 5  # steps back that are looked at
_GAIN = 0.1  # share of the residual variance that must go
_MOSTLY = 0.5  # share from which it is a delay and nothing else
_CERTAINTY = 6.0  # standard errors of that share; contacts and other jumps come to less than 5
_FEWEST = 300  # steps to learn and to judge from
_RIDGE = 1e-3
_BLOCK = 50  # steps; every second block is held out
_OUTLIER = 3.0  # standard deviations: an outlier's square would rule the fit


def check(recording: Recording, action: Choice | Continuous) -> list[Finding]:
    """`action`: what the recorded actions are."""
    problem = _Regression.of(recording, _inputs(recording, action))
    if problem is None:
        text = "not checked: too few ordinary steps for so many channels and inputs"
        return [Finding("delay", "fine", text)]
    gains = [problem.gain(lag) for lag in range(LAGS + 1)]
    late = [lag for lag in range(1, LAGS + 1) if gains[lag] > 0]
    if not late:
        return [Finding("delay", "fine", "earlier actions do not improve a one-step prediction")]
    best = max(late, key=lambda lag: gains[lag])
    steps = f"{best} step{'s' if best > 1 else ''}"
    share = f"{gains[best]:.0%} of what a one-step prediction misses"
    inputs = f"put the last {'action' if best == 1 else f'{best} actions'} into the observation"
    if len(late) == 1 and not gains[0] and gains[best] > _MOSTLY:
        return [
            Finding(
                "delay",
                "problem",
                f"an action acts {steps} late: that of {steps} before explains {share}, the"
                " present one nothing",
                f"{inputs}, or remove the delay",
            )
        ]
    return [
        Finding(
            "delay",
            "problem" if not gains[0] else "advice",
            f"actions of up to {max(late)} step{'s' if max(late) > 1 else ''} before explain"
            f" {share}: a delay, a lag, or a state that is not observed",
            f"{inputs}, add what is missing (velocities?), or stack observations with"
            " gymnasium.wrappers.FrameStackObservation",
        )
    ]


class _Regression:
    """Of the changes [N, C] on features; all in float64."""

    def __init__(
        self,
        change: Float[np.ndarray, "N C"],
        base: Float[np.ndarray, "N F"],
        linear: Float[np.ndarray, "N L"],
        past: Float[np.ndarray, "N lags A"],
        held_out: Bool[np.ndarray, " N"],
    ):
        self._change = change
        self._linear = linear
        self._past = past
        self._held_out = held_out
        self._base = base
        self._present = np.hstack([base, self._effect(0)])

    @staticmethod
    def of(recording: Recording, inputs: Float[np.ndarray, "T A"]) -> "_Regression | None":
        """None if there are too few steps for the features."""
        size = recording.observation.shape[1]
        effects = 1 + inputs.shape[1]
        # A look at the size before anything of that size is made.
        if 2 * effects * (size + 1) > len(recording.step) / 3:
            return None
        rows = np.flatnonzero(recording.step >= LAGS)
        if len(rows) < _FEWEST:
            return None
        before = recording.observation[rows].astype(np.float64)
        change = recording.next_observation[rows] - before
        ordinary, moving = _ordinary(change)
        rows, before, change = rows[ordinary], before[ordinary], change[ordinary][:, moving]
        if len(rows) < _FEWEST or not moving.any():
            return None
        z = _standardised(before)
        linear = np.hstack([np.ones((len(rows), 1)), z])
        i, j = np.triu_indices(z.shape[1])
        few = len(i) + 2 * effects * linear.shape[1] < len(rows) / 6
        return _Regression(
            change=change,
            base=np.hstack([linear, z[:, i] * z[:, j]]) if few else linear,
            linear=linear,
            past=inputs[rows[:, None] - np.arange(LAGS + 1)],
            held_out=(rows // _BLOCK) % 2 == 1,
        )

    def gain(self, lag: int) -> float:
        """Share of the residual variance that the action of `lag` steps before explains.

        In the channel where that is the clearest; 0 where it is not clear.
        """
        known = self._present if lag else self._base
        without = self._squares(known)
        better = without - self._squares(np.hstack([known, self._effect(lag)]))
        error = better.std(axis=0) / np.sqrt(len(better))
        mean, total = better.mean(axis=0), without.mean(axis=0)
        clear = (mean > _GAIN * total) & (mean > _CERTAINTY * error)
        return float((mean[clear] / total[clear]).max()) if clear.any() else 0.0

    def _effect(self, lag: int) -> Float[np.ndarray, "N E"]:
        """What an action may do: something by itself, and in proportion to the observation."""
        inputs = self._past[:, lag, :, None]
        return (inputs * self._linear[:, None, :]).reshape(len(inputs), -1)

    def _squares(self, features: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N C"]:
        """Squared residuals; each half is predicted from the other."""
        residuals = np.empty_like(self._change)
        for test in (self._held_out, ~self._held_out):
            x, y = features[~test], self._change[~test]
            ridge = _RIDGE * len(x) * np.eye(x.shape[1])
            weights = np.linalg.solve(x.T @ x + ridge, x.T @ y)
            residuals[test] = self._change[test] - features[test] @ weights
        return np.square(residuals)


def _inputs(recording: Recording, action: Choice | Continuous) -> Float[np.ndarray, "T A"]:
    """An indicator for each value of a Choice but the first; Continuous from -1 to 1."""
    if isinstance(action, Choice):
        return (recording.action[:, None] == np.arange(1, action.count)).astype(np.float64)
    low = np.array([channel.minimum for channel in action.channels])
    high = np.array([channel.maximum for channel in action.channels])
    return (2 * recording.action - low - high) / (high - low)


def _ordinary(
    change: Float[np.ndarray, "N C"],
) -> tuple[Bool[np.ndarray, " N"], Bool[np.ndarray, " C"]]:
    """Steps without a jump (a contact, an angle that wraps), and the channels that move."""
    low, high = np.quantile(change, [0.05, 0.95], axis=0)
    width = high - low
    moving = width > 0
    within = (change >= low - 2 * width) & (change <= high + 2 * width)
    return within[:, moving].all(axis=1), moving


def _standardised(values: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N _"]:
    """Without the channels that are constant."""
    deviation = values.std(axis=0)
    changing = deviation > 0
    z = (values[:, changing] - values.mean(axis=0)[changing]) / deviation[changing]
    return np.clip(z, -_OUTLIER, _OUTLIER)
