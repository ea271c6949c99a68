"""The one exception that a user is meant to see."""

INSTALL_RENDER = "in upright's folder: pip install '.[render]'"


class UprightError(Exception):
    """Bad input: the message says what is wrong, with which value, and what to do.

    The command line prints it as one line and exits with status 2.
    """


class VersionError(UprightError):
    """A file of another version of its format: nothing is wrong with it."""


class UprightWarning(UserWarning):
    """Something that a user should know, and that does not stop the work."""


def one_line(error: BaseException) -> str:
    """The message of somebody else's error, without its line feeds; its kind if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
