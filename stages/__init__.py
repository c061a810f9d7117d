"""The pipeline's stages: each loads parameters and artifacts, calls the library, and saves."""

import ctypes
import os
import signal
import sys


def end_with_parent() -> None:
    """On Linux, end when the parent does.

    Otherwise a process whose ``dvc`` or torchrun was killed would write beside the next run.
    """
    if sys.platform == "linux":
        parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None, use_errno=True).prctl(parent_death_signal, signal.SIGTERM, 0, 0, 0)


# Here, and not in ``stages.runtime.main``: torch takes seconds to import, in which a killed ``dvc``
# would go unnoticed.
if "DVC_STAGE" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ:
    end_with_parent()
