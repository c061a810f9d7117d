"""Rows, each from a process of its own with a time and a memory limit, kept on disk."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.compatibility.child import MEMORY
from benchmarks.compatibility.networks import networks
from benchmarks.compatibility.row import NO, Row

CHILD = (sys.executable, "-m", "benchmarks.compatibility.child")
SECONDS = 600


def rows(architectures: Sequence[str], jobs: int, folder: Path) -> list[Row]:
    """Return a row per architecture, ``jobs`` at a time; ``folder`` keeps finished rows."""
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda architecture: _row(architecture, folder), architectures))


def _row(architecture: str, folder: Path) -> Row:
    file = folder / (architecture.replace("/", "-") + ".json")
    if not file.exists():
        row = _ended_early(architecture, *_run((*CHILD, architecture, str(file)), SECONDS))
        if row is not None:
            return row
    row = Row(**json.loads(file.read_text()))
    print(f"{architecture}: {'; '.join(row.reasons) or 'works'}", flush=True)
    return row


def _run(command: Sequence[str], seconds: float) -> tuple[int | None, str]:
    """Exit status, None where the time was up, and the last line that the process wrote."""
    with tempfile.TemporaryFile("w+") as said:
        try:
            status: int | None = subprocess.run(
                command, stdout=said, stderr=said, timeout=seconds
            ).returncode
        except subprocess.TimeoutExpired:
            status = None
        said.seek(0)
        return status, (said.read().strip().splitlines() or [""])[-1]


def _ended_early(architecture: str, status: int | None, last_line: str) -> Row | None:
    """The row of a process that left none; it is not kept, so that the next run tries again."""
    if status == 0:
        return None
    limits = f"{SECONDS} s and {MEMORY >> 30} GiB"
    why = (
        f"not done after {SECONDS} s"
        if status is None
        else f"the process ended with status {status}: {last_line}"
    )
    print(f"{architecture}: {why}", flush=True)
    shape = "×".join(map(str, dict(networks())[architecture]))
    return Row(architecture, shape, traces=NO, reasons=[f"{why} (limits: {limits})"])
