"""Stage ``table``: the tables of the active grid. It walks the grid, and names the cells that are
missing.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.cells import NO_GRID, read_cells
from benchmarks.report.render import write_reports

REPORTS = Path("benchmarks/reports")


def run() -> None:
    """Write benchmarks/reports/GRID; stderr and the page name missing cells."""
    content = read_cells()
    if not content["reports"]:
        sys.exit(NO_GRID)
    for name in write_reports(content, REPORTS / content["grid"]):
        print(
            f"WARNING: {name} is missing; `python -m benchmarks.run` computes it", file=sys.stderr
        )


if __name__ == "__main__":
    run()
