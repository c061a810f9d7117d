"""How every stage starts: all parameters checked, kernels deterministic, and memory kept."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

from dynadfq import params
from dynadfq.runtime import seeding
from stages import launch

# Numbers of <malloc.h>: no blocks of their own from the kernel, nothing handed back, and 64 MiB at
# a time.
MALLOC = {-4: 0, -1: 2**31 - 1, -2: 2**26}
USER_ERRORS = (ValueError, FileNotFoundError, ImportError, ArithmeticError, launch.RankFailed)


def begin(stage: str) -> params.StageParams:
    """Return the parameters that ``dvc.yaml`` declares for a stage; nothing is computed before all
    are valid.
    """
    seeding.deterministic()
    keep_memory()
    return params.load(stage)


def keep_memory() -> None:
    """Ask glibc to keep what is freed: each step needs the same again, and the kernel clears every
    page it hands out.

    On 224 × 224 images that is a third of a step's CPU time (docs/performance.md). Other systems go
    their own way.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for option, value in MALLOC.items():
            library.mallopt(option, value)


def root(path: str) -> Path:
    """A path of params.yaml, relative to the main repository also in a queued experiment's copy."""
    return Path(os.environ.get("DVC_ROOT", ".")) / path


def main(stage: Callable[[], None], divisible: bool = False) -> None:
    """Run a stage; what a user can mend is one message without a traceback.

    A divisible one is run by ``launch.processes`` ranks, or is one of those that torchrun started.
    """
    try:
        if divisible and launch.is_rank():
            launch.as_rank(stage, USER_ERRORS)
        elif not (divisible and launch.in_ranks(sys.argv[1:])):
            stage()
    except USER_ERRORS as error:
        if os.environ.get("DYNADFQ_TRACEBACK"):
            raise
        sys.exit(
            str(error)
            if isinstance(error, launch.RankFailed)
            else f"{type(error).__name__}: {error}"
        )
