"""Stage ``code``: one small file for each kind of cell and each method, with the checksums of the
code it consists of.

A cell depends on such a file and not on each module: DVC reads and writes a hundred times less, and
there is no list of modules to keep.
"""

from __future__ import annotations

from benchmarks.cells import CODE
from benchmarks.imports import code_of_cells, fingerprints
from dynadfq.runtime.resume import atomic_write


def run() -> None:
    """Write benchmarks/artifacts/code."""
    import json

    for name, paths in code_of_cells():
        atomic_write(
            CODE / f"{name}.json", (json.dumps(fingerprints(paths), indent=1) + "\n").encode()
        )


if __name__ == "__main__":
    run()
