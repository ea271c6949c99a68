"""The one exception that a user is meant to see, and how its message shows what is wrong."""

from typing import Any

INSTALL_RENDER = "in upright's folder: pip install '.[render]'"


class UprightError(Exception):
    """Bad input: the message says what is wrong, with which value, and what to do.

    The command line prints it as one line and exits with status 2.
    """

    def __str__(self) -> str:
        return escaped(super().__str__())


class VersionError(UprightError):
    """A file of another version of its format: nothing is wrong with it."""


class UprightWarning(UserWarning):
    """Something that a user should know, and that does not stop the work."""

    def __str__(self) -> str:
        return escaped(super().__str__())


def one_line(error: BaseException) -> str:
    """The message of somebody else's error, without its line feeds; its kind if it says nothing."""
    text = " ".join(str(error).split())
    # The text of a KeyError is the key alone.
    return text if text and not isinstance(error, KeyError) else kind_and_text(error)


def kind_and_text(error: BaseException) -> str:
    """The same with its kind, as at the end of a trace."""
    text, kind = " ".join(str(error).split()), type(error).__name__
    return f"{kind}: {text}" if text else kind


def foreign(error: BaseException) -> str:
    """As `one_line`, of whatever an environment's own code raised, but for Ctrl-C, which is its
    user's: that goes on.
    """
    if isinstance(error, KeyboardInterrupt):
        raise error
    return one_line(error)


_LONGEST = 2_000  # characters: more than that fills a terminal


def visible(text: object) -> str:
    """Anybody's text as a part of one line on a terminal.

    What could move the cursor, break the line or not be encoded is shown as in Python, a line feed
    as "\\n"; what is longer than a screen is cut, and says so.
    """
    full = str(text)
    shown, more = escaped(full[:_LONGEST]), len(full) - _LONGEST
    return f"{shown} ... ({more:,} characters more)" if more > 0 else shown


def escaped(text: str) -> str:
    """Without control characters and the like: what is not printable is shown as in Python."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: object) -> str:
    """A wrong value in a message: as Python writes it, on one line, cut where it is long.

    Never an error, whatever the value does when it is written.
    """
    try:
        if isinstance(value, int) and abs(value) >= 10**40:  # Python refuses to write long ones
            return "a number of more than 40 digits"
        plain: Any = getattr(value, "tolist", lambda: value)()
        text = " ".join(repr(plain).split())
    except Exception:  # somebody else's code
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:100]}..."
