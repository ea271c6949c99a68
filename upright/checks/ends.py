"""Ends of episodes: what terminates, what is cut off, and whether anything ends at all."""

import numpy as np
from jaxtyping import Int

from upright.checks.recording import Recording
from upright.finding import Finding, Severity

_SHORT = 10  # steps below which many episodes have the same length by chance
_SHARE = 0.1  # of the terminations that a time limit is behind, at least


def check_termination(recording: Recording) -> list[Finding]:
    """Termination used for a time limit: episodes pile up at the greatest length."""
    ends = recording.lengths[recording.episode[recording.terminated]]
    cut = recording.lengths[recording.episode[recording.truncated & ~recording.terminated]]
    limit = int(recording.lengths.max())
    if not _piled_up(ends, limit) or _shows_time(recording):
        text = f"{len(ends)} episodes terminated, {len(cut)} were cut off by a time limit"
        return [Finding("termination", "fine", text)]
    count = int((ends == limit).sum())
    return [
        Finding(
            "termination",
            "problem",
            f"{count} of {len(ends)} terminations after exactly {limit} steps, none later: that is"
            " a time limit",
            f"return truncated there, not terminated, or leave it to max_episode_steps={limit}",
        )
    ]


def check_time_limit(recording: Recording, episode_steps: int | None) -> list[Finding]:
    """Time limit missing: an episode, and with it an evaluation, may never end."""
    lengths, ended = recording.lengths, recording.ended.sum()
    longest = int(lengths.max())
    if episode_steps is not None:
        text = f"{episode_steps} steps; random episodes take {lengths.mean():.0f}"
        return [Finding("time limit", "fine", text)]
    if recording.truncated.any():
        return [Finding("time limit", "fine", f"its own: it truncates, longest episode {longest}")]
    unfinished = not recording.ended[-1] and lengths[-1] == longest
    if not ended or (unfinished and longest >= len(recording.reward) / 2):
        return [_no_limit("problem", f"none, and an episode went on for {longest} steps")]
    text = f"none; {ended} random episodes ended by themselves, the longest after {longest}"
    return [_no_limit("advice", text)]


def declared_limit(episode_steps: int | None) -> list[Finding]:
    """What can be said without having played."""
    if episode_steps is not None:
        return []
    return [_no_limit("advice", "no time limit is declared: an episode may never end")]


def _no_limit(severity: Severity, seen: str) -> Finding:
    return Finding(
        "time limit", severity, seen, "register the environment with max_episode_steps=..."
    )


def _piled_up(ends: Int[np.ndarray, " episodes"], limit: int) -> bool:
    """More episodes end at the limit than in the tenth of the time before it."""
    count = int((ends == limit).sum())
    nearly = int(((ends < limit) & (ends >= limit - max(3, limit // 10))).sum())
    # Of very many episodes, three may well be the longest by chance.
    enough = (count >= 3 and count >= _SHARE * len(ends)) or (count == 2 and limit % 50 == 0)
    return limit >= _SHORT and enough and count > nearly


def _shows_time(recording: Recording) -> bool:
    """The observation tells how much time is left: then the end is a part of the task.

    That is a channel with the same value in the same step of each episode, and others in others.
    """
    longest = recording.next_observation[recording.episode == recording.lengths.argmax()]
    same = (recording.next_observation == longest[recording.step]).all(axis=0)
    return any(len(np.unique(longest[:, i])) == len(longest) for i in np.flatnonzero(same))
