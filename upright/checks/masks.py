"""Masks: a task that says which actions are allowed."""

from upright.bridge.flat import Flat
from upright.bridge.values import EnvironmentFailedError
from upright.finding import Finding


def check(env: Flat, seed: int) -> list[Finding]:
    """What its mask says after a reset."""
    try:
        _, info = env.reset(seed=seed)
    except EnvironmentFailedError:  # random play says it better
        return []
    mask = env.action_mask
    if mask is not None:
        source = "info['action_mask']" if "action_mask" in info else "its method action_masks()"
        seen = f"{source} allows {mask.sum()} of {len(mask)} actions after the reset; no others"
        return [Finding("mask", "fine", f"{seen} are chosen, nor counted on")]
    if "action_mask" not in info:
        return []
    return [
        Finding(
            "mask",
            "advice",
            "info['action_mask'] is ignored: the action is continuous, which has no masks",
            "let step() do something harmless where an action is not allowed",
        )
    ]
