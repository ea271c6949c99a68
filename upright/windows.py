"""Whether somebody can see a window."""

import os
import sys
import tempfile

from upright.errors import UprightError


def has_display() -> bool:
    """Whether there is one, as far as the environment variables tell."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in names)


def check_display(instead: str) -> None:
    """Raises UprightError where there is none; `instead`: what to do then."""
    if not has_display():
        raise UprightError(f"no display for a window; {instead}")
    # Where it is not set, SDL asks for it in a line of its own.
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())


def check_window(instead: str) -> None:
    """The same, once a window was opened: a variable may name a display that is not there.

    Then SDL draws, but nobody sees it. A window that is not SDL's is not looked at.
    """
    if "pygame" not in sys.modules:
        return
    import pygame

    driver = pygame.display.get_driver() if pygame.display.get_init() else None
    hidden = ("dummy", "offscreen", "evdev")
    if driver in hidden and os.environ.get("SDL_VIDEODRIVER") != driver:
        raise UprightError(f"no display for a window; {instead}")
