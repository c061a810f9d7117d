"""How a program ends: errors and signals become one line on stderr, without a traceback."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from dynadfq.runtime.errors import first_line

# What a user can act on; anything else is a fault of the program and shows a traceback.
USER_ERRORS = (ValueError, OSError, ImportError, ArithmeticError, MemoryError)
SIGNALS = (signal.SIGINT, signal.SIGTERM)
FAILED = 1  # exit status; 2 is a wrong option or argument
SIGNALLED = 128  # exit status of a program that a signal ended, less the signal's number
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")  # torch's messages
ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EROFS: "use a folder that can be written to",
    errno.EACCES: "use a folder and files that this user may read and write",
    errno.EPERM: "use a folder and files that this user may read and write",
    errno.ENOTDIR: "a file stands where a folder is needed; move it away",
    errno.EEXIST: "a file stands where a folder is needed; move it away",
    errno.ELOOP: "a symbolic link leads to itself; remove it",
}


class Stopped(BaseException):
    """SIGINT or SIGTERM arrived. Not a KeyboardInterrupt, which libraries catch and report."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    for one in SIGNALS:  # the next one ends the program at once
        signal.signal(one, signal.SIG_DFL)
    raise Stopped(number)


@contextmanager
def one_line(name: str, go_on: str) -> Iterator[None]:
    """Run a program's work in the block; its errors and signals are one line on stderr.

    DYNADFQ_TRACEBACK=1 shows where an error was raised.

    Args:
        name: of the program, which begins the line.
        go_on: what to do after an interruption, such as "run it again".

    Raises:
        SystemExit: with status 1 after an error, 128 + its number after a signal.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console need not have ×, … and the like
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, _stop)
    try:
        yield
    except (*USER_ERRORS, RuntimeError) as error:
        said = sentence(error, go_on)
        if said is None or os.environ.get("DYNADFQ_TRACEBACK"):
            raise
        _say(f"{name}: {said}")
        sys.exit(FAILED)
    except Stopped as stopped:
        _say(f"{name}: {stopped}; {go_on}")
        sys.exit(SIGNALLED + stopped.number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def sentence(error: Exception, go_on: str) -> str | None:
    """Return what a user reads about an error; None if it is a fault of the program.

    >>> sentence(OSError(errno.ENOSPC, "No space left on device", "set/manifest.json"), "run again")
    'set/manifest.json: No space left on device; free some space, then run again'
    >>> sentence(RuntimeError("a fault"), "run again")
    """
    if isinstance(error, MemoryError) or _is_memory(error):
        detail = f" ({first_line(error)})" if str(error) else ""
        return f"out of memory{detail}; lower the batch size or the size of the images"
    if isinstance(error, BrokenPipeError):
        return f"the program that read the output has ended; {go_on}"
    if isinstance(error, OSError) and error.errno in ADVICE:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}; {ADVICE[error.errno]}, then {go_on}"
    if isinstance(error, OSError) and error.errno is not None:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}"
    return str(error) if isinstance(error, USER_ERRORS) else None


def _is_memory(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and any(
        words in str(error).lower() for words in NO_MEMORY
    )


def _say(line: str) -> None:
    """Print a line, and keep a closed pipe from being reported when Python ends."""
    for stream in (sys.stderr, sys.stdout):
        try:
            if stream is sys.stderr:
                print(line, file=stream)
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
