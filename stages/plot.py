"""Stage ``plot``: write ``reports/`` from what the other stages measured."""

from __future__ import annotations

from pathlib import Path

from dynadfq.report.render import write_report
from stages.artifacts import ARTIFACTS
from stages.runtime import begin, main


def run() -> None:
    """Draw the report."""
    report = begin("plot").report
    write_report(ARTIFACTS, Path("reports"), report.title, report.grid_images)


if __name__ == "__main__":
    main(run)
