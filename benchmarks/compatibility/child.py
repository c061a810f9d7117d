"""One architecture, tried in a process of its own: ``python -m benchmarks.compatibility.child
ARCHITECTURE FILE``.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from benchmarks.compatibility.checks import examine
from benchmarks.compatibility.networks import CLASSES, networks
from benchmarks.compatibility.row import Row
from dynadfq.runtime.resume import atomic_write
from dynadfq.zoo.architectures import build

MEMORY = 12 * 2**30  # bytes


def main(architecture: str, file: str) -> None:
    """Write a row as JSON."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    shape = dict(networks())[architecture]
    row = Row(architecture, "×".join(map(str, shape)))
    with tempfile.TemporaryDirectory(prefix="dynadfq-") as scratch:
        examine(row, partial(build, architecture, shape[0], CLASSES), shape, CLASSES, Path(scratch))
    atomic_write(Path(file), json.dumps(asdict(row)).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
