"""The pipeline's stages: each loads parameters and artifacts, calls the library, and saves."""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

DVC_WRITERS = Path(".dvc/tmp/rwlock")  # JSON in which DVC names the processes that write outputs


def end_with_parent() -> None:
    """On Linux, end when the parent does.

    Otherwise a process whose ``dvc`` or torchrun was killed would write beside the next run.
    """
    if sys.platform == "linux":
        parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None, use_errno=True).prctl(parent_death_signal, signal.SIGTERM, 0, 0, 0)


def dvc_has_ended() -> bool:
    """Return whether the ``dvc`` that started this stage was killed before `end_with_parent`.

    On another system, or with another version of DVC, that is not known, and the answer is no.
    """
    try:
        writers = json.loads(DVC_WRITERS.read_text())["write"].values()
        numbers = {writer["pid"] for writer in writers}
        return bool(numbers) and numbers.isdisjoint(_ancestors())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # no such file
        return False


def _ancestors() -> Iterator[int]:
    """Yield the numbers of the process's parent, its parent's parent, and so on."""
    number = os.getpid()
    while number > 1:
        status = Path(f"/proc/{number}/stat").read_text()
        number = int(status.rpartition(")")[2].split()[1])
        yield number


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    """End at once; while modules are imported nothing has to be saved."""
    os.write(2, f"stopped by {signal.Signals(number).name}; run the same command again\n".encode())
    os._exit(128 + number)


# Here, and not in ``stages.runtime.main``: torch takes seconds to import, in which a killed ``dvc``
# would go unnoticed, and an interrupted import would show its traceback.
_under_dvc = "DVC_STAGE" in os.environ
if _under_dvc or "TORCHELASTIC_RUN_ID" in os.environ:
    end_with_parent()
    if _under_dvc and dvc_has_ended():
        sys.exit("dvc has ended, and this stage with it; run the same command again")
if _under_dvc or sys.argv[0] == "-m":  # "-m": Python looks for the stage that it was asked to run
    for _signal in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_signal, _end)
