"""Cells that are finished before DVC asks for them.

``python -m benchmarks.run`` computes cells in several processes and leaves each in
``.scratch/grid``, under a fingerprint of its entry and of all that it reads: the identity by which
DVC itself recognizes a result. The command of the cell's stage then finds it and moves it into
place. So DVC alone writes ``dvc.lock``, a killed run has lost no finished cell, and what was
computed from other code or inputs is never taken.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from benchmarks.cells import Cell
from dynadfq.runtime.resume import digest, fingerprint

Locate = Callable[[Path], Path]  # where an input is now


def store() -> Path:
    """The folder of all finished cells, in the main repository also in a queued experiment's
    copy.
    """
    return Path(os.environ.get("DVC_ROOT", ".")) / ".scratch" / "grid"


def identity(cell: Cell, locate: Locate = lambda path: path) -> str:
    """What a cell's result depends on."""
    inputs = [_content(locate(path)) for path in cell.inputs]
    return fingerprint(cell.kind, cell.key, dict(cell.entry), inputs)


def place(cell: Cell, identified: str) -> Path:
    """The folder of a finished cell; it holds the outputs under their numbers."""
    return store() / f"{cell.name}-{identified}"


def keep(cell: Cell, identified: str, compute: Callable[[list[Path]], None]) -> None:
    """Compute a cell into the store; it is there whole or not at all."""
    final = place(cell, identified)
    working = final.with_name(f"{final.name}.part")
    shutil.rmtree(working, ignore_errors=True)
    working.mkdir(parents=True)
    compute([working / str(number) for number in range(len(cell.outputs))])
    os.replace(working, final)


def take(cell: Cell) -> bool:
    """Move a finished cell's outputs to where DVC expects them; False if there is none."""
    kept = place(cell, identity(cell))
    if not kept.exists():
        return False
    for number, output in enumerate(cell.outputs):
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(output, ignore_errors=True)
        os.replace(kept / str(number), output)
    kept.rmdir()
    return True


def _content(path: Path) -> str:
    """A fingerprint of a file or folder."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; run `dvc repro benchmarks/dvc.yaml`")
    return digest(path) if path.is_dir() else sha256(path.read_bytes()).hexdigest()
