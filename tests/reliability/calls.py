"""The calls that change files below a folder, counted; one of them with mischief."""

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

MISCHIEFS = ("kill", "full", "error", "ctrl-c")
# By path, the last one of their arguments that is one.
_ONE, _TWO = ("unlink", "remove", "mkdir", "rmdir", "truncate"), ("replace", "rename")
_NEED_SPACE = ("mkdir", "open", "write", "fsync", "sendfile")


class Killed(BaseException):
    """The process is dead: every call that would change a file raises it again."""


class Calls:
    """A context in which calls below `root` are counted, from 0.

    In the call of number `at`: "kill" ends the process (half of what is written is in the file),
    "error" fails once (EIO), "full" fails whatever needs space from there on (ENOSPC), "ctrl-c"
    sends the signal.
    """

    def __init__(self, root: Path, mischief: str = "", at: int = -1):
        self.root = os.path.realpath(root)
        self.mischief, self.at = mischief, at
        self.count = 0
        self._dead = self._full = False
        self._usual: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> "Calls":
        for name in _ONE:
            self._patch(os, name, self._by_path(name, 0))
        for name in _TWO:
            self._patch(os, name, self._by_path(name, 1))
        self._patch(os, "fsync", self._by_number("fsync"))
        self._patch(os, "sendfile", self._by_number("sendfile"))
        self._patch(os, "open", self._open_number())
        for module in (builtins, io):
            self._patch(module, "open", self._open_file())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for place, name, usual in reversed(self._usual):
            setattr(place, name, usual)

    def due(self, name: str, half: Callable[[], object] = lambda: None) -> None:
        """Counts; `half` does a part of what the call would have done."""
        if self._dead:
            raise Killed
        now = self.count == self.at
        self.count += 1
        if now and self.mischief == "ctrl-c":
            signal.raise_signal(signal.SIGINT)
        if now and self.mischief == "kill":
            half()
            self._dead = True
            raise Killed
        if now and self.mischief == "error":
            half()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._full = self._full or (now and self.mischief == "full")
        if self._full and name in _NEED_SPACE:
            half()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _patch(self, place: Any, name: str, function: Any) -> None:
        self._usual.append((place, name, getattr(place, name)))
        setattr(place, name, function)

    def _inside(self, path: Any) -> bool:
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")
            except OSError:
                return False
        path = os.path.abspath(os.fsdecode(path))
        return path == self.root or path.startswith(self.root + os.sep)

    def _by_path(self, name: str, place: int) -> Callable[..., Any]:
        usual = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            # Of a path that is relative to an open folder (shutil.rmtree) the folder tells.
            where = options.get("dir_fd")
            if self._inside(arguments[place] if where is None else where):
                self.due(name)
            return usual(*arguments, **options)

        return call

    def _by_number(self, name: str) -> Callable[..., Any]:
        usual = getattr(os, name)

        def call(number: int, *arguments: Any) -> Any:
            if self._inside(number):
                self.due(name)
            return usual(number, *arguments)

        return call

    def _open_number(self) -> Callable[..., Any]:
        usual = os.open

        def call(path: Any, flags: int, *arguments: Any, **options: Any) -> Any:
            if flags & os.O_CREAT and self._inside(path) and not os.path.exists(path):
                self.due("open")
            return usual(path, flags, *arguments, **options)

        return call

    def _open_file(self) -> Callable[..., Any]:
        usual, calls = io.open, self

        class File(io.BufferedWriter):
            def write(self, content: Any) -> int:
                calls.due("write", lambda: self._put(content[: len(content) // 2]))
                return self._put(content)

            def _put(self, content: Any) -> int:
                number = super().write(content)
                self.flush()
                return number

        def call(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if mode in ("ab", "wb", "xb") and self._inside(path):
                self.due("open")
                return File(io.FileIO(path, mode))
            return usual(path, mode, *arguments, **options)

        return call
