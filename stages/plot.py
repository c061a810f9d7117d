"""Stage ``plot``: write ``reports/`` from what the other stages measured."""

from __future__ import annotations

from pathlib import Path

from dynadfq.params import View
from dynadfq.report.config import ReportConfig
from dynadfq.report.render import write_report
from dynadfq.runtime.resume import remove_leftovers
from stages.artifacts import ARTIFACTS
from stages.runtime import main


class PlotParams(View):
    """What this stage declares in dvc.yaml."""

    report: ReportConfig


def run(p: PlotParams) -> None:
    """Draw the report."""
    remove_leftovers(Path("reports"))
    write_report(ARTIFACTS, Path("reports"), p.report.title, p.report.grid_images)


if __name__ == "__main__":
    main(run, PlotParams)
