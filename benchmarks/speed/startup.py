"""Ratio 6: importing the library over importing torch, each in a fresh process."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.speed.ratio import Result, summed_up

REPEATS = 7
TIMED = "from time import process_time as t; s = t(); {}; print(t() - s)"


def measured() -> list[Result]:
    """Return the ratios of the import alone, which is lazy, and of every public name."""
    _seconds("import torch")  # files into the page cache
    results = []
    for what, statement in [
        ("import dynadfq", "import dynadfq"),
        ("every public name of it", "from dynadfq import *"),
    ]:
        pairs = [(_seconds(statement), _seconds("import torch")) for _ in range(REPEATS)]
        results.append(
            summed_up(6, f"{what} / import torch", pairs, 1.3, note="CPU time, fresh processes")
        )
    return results


def _seconds(statement: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", TIMED.format(statement)], check=True, text=True, capture_output=True
    )
    return float(done.stdout)
