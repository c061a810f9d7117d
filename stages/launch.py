"""A stage in several processes (ranks): torchrun starts them and ends all when one fails."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from dynadfq import params
from dynadfq.runtime.distributed import RankUnreachable, joined
from dynadfq.runtime.program import FAILED, SIGNALLED, Stopped, sentence

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

# What follows "…; " in messages about interrupted work.
GO_ON = "run the same command again: finished work is kept, and it goes on from there"
GRACE = 10.0  # seconds; by then torchrun has ended a rank that lost another


class Explained(Exception):
    """The error of a rank in the words that a user reads."""


def is_rank() -> bool:
    """Return whether torchrun started this process, by hand or from a stage."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def in_ranks(arguments: list[str]) -> bool:
    """Run this stage in ``launch.processes`` ranks, and return whether there are several.

    Raises:
        SystemExit: a rank failed; holds the error of the first rank that did.
        Stopped: a signal ended the ranks.
    """
    count = 1 if is_rank() else params.read().launch.processes
    if count == 1:
        return False
    stage = sys.modules["__main__"].__spec__
    assert stage is not None, "stages are started as modules: python -m stages.NAME"
    threads = os.environ.setdefault("OMP_NUM_THREADS", str(threads_each(count)))
    print(f"{stage.name}: {count} processes, OMP_NUM_THREADS={threads} each", file=sys.stderr)
    _torchrun(["--module", stage.name, *arguments], count)
    return True


def threads_each(processes: int) -> int:
    """Return the threads for each process, which together take no more than all cores."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, cores // processes)


def _torchrun(script: list[str], count: int) -> None:
    # Imported here: takes a second, and a stage of one process does not need it.
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable(logging.ERROR)  # torchrun's own report repeats that of the rank
    with tempfile.TemporaryDirectory() as logs:
        options = ["--standalone", "--local-addr=localhost", f"--nproc-per-node={count}"]
        arguments = torchrun.parse_args([*options, f"--log-dir={logs}", *script])
        try:
            torchrun.run(arguments)
        except ChildFailedError as error:
            sys.exit(_described(*error.get_first_failure()))
        except SignalException as error:  # torchrun has passed the signal on to the ranks
            raise Stopped(error.sigval) from None


def _described(rank: int, failure: ProcessFailure) -> str:
    if isinstance(failure.message, dict):
        said = str(failure.message["message"]).removeprefix(f"{Explained.__name__}: ")
        return f"rank {rank}: {said}"
    if failure.exitcode < 0:
        end = f"ended by {failure.signal_name()}"
    else:
        end = f"ended with exit status {failure.exitcode}"
    return f"rank {rank}: {end}; {GO_ON}"


def as_rank(stage: Callable[[], None]) -> None:
    """Run a stage as one of several ranks, and leave its error to torchrun to report.

    An error that a user cannot act on shows a traceback as well.
    """
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    try:
        with joined():
            stage()
    except Exception as error:
        if isinstance(error, RankUnreachable):
            time.sleep(GRACE)  # the rank that failed first reports
        said = sentence(error, GO_ON)
        get_error_handler().record_exception(error if said is None else Explained(said))
        expected = said is not None or isinstance(error, RankUnreachable)
        if expected and not os.environ.get("DYNADFQ_TRACEBACK"):
            sys.exit(FAILED)
        raise
    except Stopped as stopped:  # torchrun's process says so
        sys.exit(SIGNALLED + stopped.number)
