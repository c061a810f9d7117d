"""A stage as several processes of this machine: torchrun's agent starts them, and ends with the
first that fails.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dynadfq import params
from dynadfq.runtime.distributed import RankLost, joined

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

GRACE = 10.0  # seconds in which the agent ends a rank that has lost another


class RankFailed(RuntimeError):
    """What the first rank that failed said."""


def is_rank() -> bool:
    """Whether torchrun started this process, by hand or from a stage."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def in_ranks(arguments: list[str]) -> bool:
    """Run the stage that this process was started as in ``launch.processes`` ranks, and return
    whether it was.

    Raises:
        RankFailed: with the error of the rank that failed; the others have been ended.
    """
    count = 1 if is_rank() else params.read().launch.processes
    if count == 1:
        return False
    stage = sys.modules["__main__"].__spec__
    assert stage is not None, "stages are started as modules: python -m stages.NAME"
    os.environ.setdefault("OMP_NUM_THREADS", str(threads_each(count)))
    print(
        f"{stage.name}: {count} processes, OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']} each",
        file=sys.stderr,
    )
    _run(["-m", stage.name, *arguments], count)
    return True


def threads_each(processes: int) -> int:
    """Threads for each, so that together they take no more than there are cores."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, cores // processes)


def _run(arguments: list[str], count: int) -> None:
    """Start Python ``count`` times with the arguments, and wait."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory() as logs, _quiet():
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=f"stage-{os.getpid()}",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            monitor_interval=0.1,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        try:
            elastic_launch(config, sys.executable)(*arguments)
        except ChildFailedError as error:
            raise RankFailed(_account(error.failures)) from None
        except SignalException as error:  # the agent has passed the signal on
            signal.signal(error.sigval, signal.SIG_DFL)
            os.kill(os.getpid(), error.sigval)


def _account(failures: Mapping[int, ProcessFailure]) -> str:
    """What the failed rank itself said, or how it ended; not what became of those that the agent
    then ended.
    """

    def said(rank: int) -> str:
        message = failures[rank].message
        return message["message"] if isinstance(message, dict) else ""

    def blame(rank: int) -> tuple[int, int]:
        if said(rank):
            return (2 if said(rank).startswith(RankLost.__name__) else 0), rank
        return (2 if failures[rank].exitcode == -signal.SIGTERM else 1), rank

    rank = min(failures, key=blame)
    code = failures[rank].exitcode
    end = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
    return (
        f"rank {rank}: {said(rank) or f'{end}; run the stage again, it goes on where it stopped'}"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """The agent's own account of a failure is left out: the rank's says more."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def as_rank(stage: Callable[[], None], user_errors: tuple[type[Exception], ...]) -> None:
    """Run a stage beside its other ranks. An error is left to the agent to show, with a traceback
    unless user_errors.
    """
    try:
        with joined():
            stage()
    except Exception as error:
        _report(error)
        if isinstance(error, (*user_errors, RankLost)) and not os.environ.get("DYNADFQ_TRACEBACK"):
            sys.exit(1)
        raise


def _report(error: Exception) -> None:
    """Hand a rank's error to the agent; one that only lost another rank leaves the word to that
    one.
    """
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    if isinstance(error, RankLost):
        time.sleep(GRACE)
    get_error_handler().record_exception(error)
