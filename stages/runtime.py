"""How every stage starts: parameters checked, kernels deterministic, freed memory kept."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dynadfq import params
from dynadfq.runtime import seeding
from stages import launch

# Options of <malloc.h>'s mallopt.
M_MMAP_MAX = -4
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
USER_ERRORS = (ValueError, FileNotFoundError, ImportError, ArithmeticError)


def begin(stage: str) -> params.StageParams:
    """Return the parameters that ``dvc.yaml`` declares for a stage; nothing is computed before all
    are valid.
    """
    seeding.deterministic()
    keep_memory()
    return params.load(stage)


def keep_memory() -> None:
    """Make glibc keep freed memory: each step needs the same again, and the kernel clears every
    page it hands out.

    On 224 × 224 images that is a third of a step's CPU time (docs/performance.md). Does nothing on
    other systems.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(M_TOP_PAD, 2**26)


def root(path: str) -> Path:
    """Return a path of params.yaml relative to the main repository, also in the copy of it that a
    queued experiment runs in.
    """
    return Path(os.environ.get("DVC_ROOT", ".")) / path


@contextmanager
def yaml_keys(section: str, **renamed: str) -> Iterator[None]:
    """Turn the arguments that a library error begins with into keys of params.yaml.

    Args:
        section: prefix of the keys: "num_classes: …" becomes "teacher.num_classes: …".
        renamed: keys of arguments that are called otherwise in params.yaml.
    """
    try:
        yield
    except (ValueError, FileNotFoundError, ImportError) as error:
        names, _, message = str(error).partition(": ")
        if not re.fullmatch(r"\w+(, \w+)*", names):
            raise
        keys = [renamed.get(name, f"{section}.{name}") for name in names.split(", ")]
        raise type(error)(f"{', '.join(keys)}: {message}") from error


def main(stage: Callable[[], None], divisible: bool = False) -> None:
    """Run a stage; a user's error is one message without a traceback.

    Args:
        stage: the function to run.
        divisible: whether ``launch.processes`` ranks may share the work.
    """
    try:
        if divisible and launch.is_rank():
            launch.as_rank(stage, USER_ERRORS)
        elif not (divisible and launch.in_ranks(sys.argv[1:])):
            stage()
    except USER_ERRORS as error:
        if os.environ.get("DYNADFQ_TRACEBACK"):
            raise
        sys.exit(f"{type(error).__name__}: {error}")
