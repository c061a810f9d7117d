"""How every stage starts: all parameters checked, kernels deterministic, and an end when ``dvc`` ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from dynadfq import params, seeding


def begin(stage: str) -> params.StageParams:
    """Return the parameters that ``dvc.yaml`` declares for a stage; nothing is computed before all are valid."""
    _end_with_parent()
    seeding.deterministic()
    return params.load(stage)


def root(path: str) -> Path:
    """A path of params.yaml, relative to the main repository also in a queued experiment's copy."""
    return Path(os.environ.get("DVC_ROOT", ".")) / path


def main(stage: Callable[[], None]) -> None:
    """Run a stage; what a user can mend is one message without a traceback."""
    try:
        stage()
    except (ValueError, FileNotFoundError, ImportError, ArithmeticError) as error:
        if os.environ.get("DYNADFQ_TRACEBACK"):
            raise
        sys.exit(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    """On Linux, end when the parent does: else a killed ``dvc`` leaves a stage writing beside the next run's."""
    if sys.platform == "linux":
        parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None, use_errno=True).prctl(parent_death_signal, signal.SIGTERM, 0, 0, 0)
