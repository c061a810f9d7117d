"""OpenVINO's logits of an ONNX file, in a process of its own: OpenVINO can crash on a file.

``python -m dynadfq.export.openvino_process MODEL IMAGES LOGITS BATCH`` reads and writes ``.npy``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COMMAND = (sys.executable, "-m", "dynadfq.export.openvino_process")


class OpenVINOFailed(RuntimeError):
    """OpenVINO does not run the file."""


def is_installed() -> bool:
    """Whether OpenVINO can be imported."""
    return find_spec("openvino") is not None


def openvino_logits(content: bytes, images: NDArray[np.generic], batch: int) -> NDArray[np.float32]:
    """Return the (N, classes) logits of an ONNX file for (N, C, H, W) images.

    Args:
        content: the file.
        images: as the file reads them.
        batch: images at a time.

    Raises:
        OpenVINOFailed: says why; the process may have crashed.
    """
    with tempfile.TemporaryDirectory(prefix="dynadfq-") as name:
        folder = Path(name)
        model, given, found = folder / "model.onnx", folder / "images.npy", folder / "logits.npy"
        model.write_bytes(content)
        np.save(given, images)
        ran = subprocess.run(
            [*COMMAND, str(model), str(given), str(found), str(batch)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        if ran.returncode < 0:
            raise OpenVINOFailed(f"it crashed ({signal.Signals(-ran.returncode).name})")
        if ran.returncode:
            raise OpenVINOFailed(ran.stderr.strip() or f"its process ended with {ran.returncode}")
        logits: NDArray[np.float32] = np.load(found)
    return logits


def main(model: str, images: str, logits: str, batch: str) -> None:
    """Run OpenVINO on the CPU; end with its error."""
    import openvino

    try:
        core = openvino.Core()
        network = core.compile_model(core.read_model(model), "CPU")
        given = np.load(images)
        starts = range(0, len(given), int(batch))
        parts = [network(given[start : start + int(batch)]) for start in starts]
        np.save(logits, np.concatenate([next(iter(part.values())) for part in parts]))
    except Exception as error:  # OpenVINO's own errors have no common type
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
