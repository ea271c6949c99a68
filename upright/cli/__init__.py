"""The command line: parse, call, print; no logic. A file for each command, imported when used."""

import contextlib
import difflib
import io
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import Any

from upright.calling import from_command_line
from upright.cli import terminal
from upright.errors import UprightError, UprightWarning, one_line, visible
from upright.files import reason

COMMANDS = {
    "train": "train a controller with many seeds: upright train CartPole-v1",
    "doctor": "look for what is wrong with a task, before training: a fix for each finding",
    "resume": "go on with a run, after Ctrl-C, a power cut, or for more steps",
    "merge": "join runs with other seeds, say from two machines, into one",
    "evaluate": "greedy episodes in Gymnasium: mean and worst return",
    "play": "watch a policy: in a window, as GIF or MP4",
    "plot": "learning curve of a run: every seed, mean, interquartile mean",
    "tasks": "what there is to train on, and the parameters of a task",
    "runs": "list the runs in a folder",
    "show": "what a run or a policy file is",
}


def main() -> None:
    """The command `upright`. Bad input ends with one line and exit status 2."""
    terminal.open_streams()
    # While modules are imported (JAX takes a second) an exception out of nowhere would end in a
    # trace or be swallowed; nothing has been begun yet, so Ctrl-C simply ends us.
    # What is ignored (as by `&` in a script) stays ignored.
    main_thread = threading.current_thread() is threading.main_thread()
    if main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    warnings.showwarning = _show_warning
    try:
        with from_command_line():
            run(sys.argv[1:])
        sys.stdout.flush()
    except UprightError as error:
        sys.exit(_fail(str(error)))
    except KeyboardInterrupt:
        _fail("interrupted")
        # A thread that is compiling would be torn down with Python, in the middle of it.
        os._exit(130)
    except BrokenPipeError:
        # The reader of our output has left (`upright runs | head`); that is its right.
        terminal.discard_output()
    except OSError as error:
        # What could not be written now cannot be when Python ends either.
        terminal.discard_output()
        sys.exit(_fail(f"{error.filename or 'input or output'}: {reason(error)}"))
    except Exception as error:
        if said := _why_jax_fails(error):
            sys.exit(_fail(said))
        raise


def _why_jax_fails(failed: Exception) -> str | None:
    """What the user's variables for JAX are to blame for; None if that is not it."""
    if not any(name.startswith("JAX_") for name in os.environ):
        return None
    try:
        import_module("upright.runners.jit").prepare()
    except UprightError as error:
        return str(error)
    except Exception:  # of JAX, while it reads them; it says what is wrong the first time alone
        return f"JAX does not start: {one_line(failed)}"
    return None


def run(arguments: Sequence[str]) -> None:
    """One command line, without the name of the program. Raises UprightError on bad input."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return
    if arguments[0] == "--version":
        import upright

        print(f"upright {upright.__version__}")
        return
    name, *rest = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(COMMANDS)}"
        raise UprightError(f"unknown command {name!r}; {hint}")
    module = import_module(f"upright.cli.{name}")
    command = _parse(module, name, rest)
    # A training replaces the handler by its own; until then JAX could swallow an exception.
    if name not in ("train", "resume") and signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


def _parse(module: Any, name: str, arguments: list[str]) -> Any:
    """The module's dataclass `Command` from the arguments; its comments are the help text."""
    import tyro

    from upright.cli.complaints import check_values, plain_words

    check_values(module.Command, arguments)
    if hasattr(module, "prepare"):
        arguments = module.prepare(arguments)
    default = module.default(arguments) if hasattr(module, "default") else None
    options = {} if default is None else {"default": default}
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(module.Command, prog=f"upright {name}", args=arguments, **options)
    except SystemExit as end:
        if not end.code:
            raise  # the help text was asked for and printed
        message = plain_words(complaint.getvalue(), module.Command, arguments)
        raise UprightError(f"{message} (see upright {name} --help)") from None


def _overview() -> str:
    commands = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
    return (
        "usage: upright COMMAND ...\n\n"
        "Reinforcement learning for robot and control developers.\n\n"
        f"{commands}\n\n"
        "upright COMMAND --help says more."
    )


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any
) -> None:
    """In one line; ours are for users: without the place in the code."""
    where = "" if category is UprightWarning else f" ({category.__name__}, {filename}:{lineno})"
    plain = re.sub(r"\x1b\[[\d;]*m", "", str(message))  # Gymnasium writes its own in colour
    terminal.complain(f"warning: {visible(plain)}{where}")


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"upright: interrupted\n")
    os._exit(130)


def _fail(message: str, status: int = 2) -> int:
    terminal.complain(visible(message))
    return status
