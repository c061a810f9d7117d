"""Stage ``plot``: write ``reports/`` from what the other stages measured."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from dynadfq.params import View
from dynadfq.report.config import ReportConfig
from dynadfq.report.render import write_report
from dynadfq.report.summary import summary
from dynadfq.report.text import MISSING
from dynadfq.runtime.resume import remove_leftovers
from stages.artifacts import ARTIFACTS
from stages.runtime import main

REPORTS = Path("reports")


class PlotParams(View):
    """What this stage declares in dvc.yaml."""

    seed: int
    report: ReportConfig


def commit() -> str:
    """Return the commit of the checkout and its date; a dash outside git."""
    shown = _git("log", "-1", "--format=%h of %cs")
    changed = _git("status", "--porcelain", "--", ".", ":!reports", ":!dvc.lock")
    return (shown or MISSING) + (", with uncommitted changes" if changed else "")


def _git(*arguments: str) -> str:
    try:
        found = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()


def run(p: PlotParams) -> None:
    """Draw the report, and print the result in a few lines."""
    remove_leftovers(REPORTS)
    origin = {"Seed": str(p.seed), "Commit": commit(), "Command": "dvc repro"}
    write_report(ARTIFACTS, REPORTS, p.report.title, p.report.grid_images, origin)
    print(f"\n{summary(json.loads((REPORTS / 'metrics.json').read_text(encoding='utf-8')))}")


if __name__ == "__main__":
    main(run, PlotParams)
