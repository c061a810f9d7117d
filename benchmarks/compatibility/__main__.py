"""``python -m benchmarks.compatibility [--only NAME …] [--jobs N]``: write docs/compatibility.md.

Each architecture is tried in a process of its own. A killed run continues when it is started again,
unless code has changed. ``--only`` tries single architectures and takes the other rows from the
table in benchmarks/reports.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pandas as pd

from benchmarks.compatibility.networks import networks
from benchmarks.compatibility.run import rows
from benchmarks.compatibility.table import DOCUMENT, TABLE, as_table, read, versions, write
from dynadfq.runtime.resume import Scratch, digest


def main() -> str:
    """Try the architectures, write table and page, and return how many work."""
    known = [architecture for architecture, _ in networks()]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compatibility", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=known, help="such as torchvision/resnet18"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="processes at a time, of one thread each (default 1)"
    )
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    code = [digest(Path(folder)) for folder in ("dynadfq", "benchmarks/compatibility")]
    scratch = Scratch.of_stage("compatibility", code, versions())
    assert scratch.folder is not None
    made = rows(arguments.only or known, arguments.jobs, scratch.folder)
    table = as_table(made)
    if arguments.only and TABLE.exists():
        table = pd.concat([table, read()]).drop_duplicates("architecture")
    write(table.sort_values("architecture", key=lambda names: names.map(known.index)))
    scratch.delete()
    well = sum(not row.reasons for row in made)
    return f"{well} of {len(made)} architectures pass every check; see {DOCUMENT}"


if __name__ == "__main__":
    print(main(), file=sys.stderr)
