"""The three streams of the process: closed, full, or left by whoever read them."""

import contextlib
import io
import os
import sys


def open_streams() -> None:
    """Closed ones (`>&-`) lead to nowhere: else the next file that is opened would take its place.

    What the terminal cannot encode is escaped.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, this one
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def complain(line: str) -> None:
    """On standard error; if nobody can read it, that is no reason to stop."""
    with contextlib.suppress(OSError):
        print(f"upright: {line}", file=sys.stderr, flush=True)


def discard_output() -> None:
    """From now on: standard output is full, or nobody reads it."""
    with contextlib.suppress(OSError, io.UnsupportedOperation):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
