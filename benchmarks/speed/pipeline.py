"""Number 7: a ``dvc repro`` that has nothing to do, in a clone whose outputs are there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.speed.ratio import Result

REPEATS = 3
NAME = "dvc repro with nothing to do"


def measured() -> Result:
    """Return wall seconds, or a reason: the outputs of the last commit must be in the cache."""
    cache = Path(_output(["dvc", "cache", "dir"], Path.cwd())).resolve()
    with tempfile.TemporaryDirectory(prefix="dynadfq-repro-") as name:
        clone = Path(name) / "clone"
        subprocess.run(["git", "clone", "-q", ".", clone], check=True)
        _output(["dvc", "cache", "dir", "--local", str(cache)], clone)
        present = subprocess.run(
            ["dvc", "checkout", "-q", "dvc.yaml"], cwd=clone, capture_output=True
        )
        if present.returncode or _output(["dvc", "status", "dvc.yaml", "--json"], clone) != "{}":
            note = (
                "the last commit's outputs are not in the cache; run `dvc repro` and commit "
                "dvc.lock first"
            )
            return Result(7, NAME, None, None, None, 0, None, unit="s", note=note)
        seconds = [_seconds(clone) for _ in range(REPEATS)]
    lower, median, upper = np.percentile(seconds, [25, 50, 75]).tolist()
    return Result(
        7, NAME, median, lower, upper, REPEATS, None, unit="s", note="wall time, in a clone"
    )


def _seconds(clone: Path) -> float:
    start = perf_counter()
    _output(["dvc", "repro", "dvc.yaml"], clone)
    return perf_counter() - start


def _output(command: list[str], folder: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}
    return subprocess.run(
        command,
        cwd=folder,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        env=environment,
    ).stdout.strip()
