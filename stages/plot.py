"""Stage ``plot``: what the other stages measured, as files to open. It is cheap, and alone writes
``reports/``.
"""

from __future__ import annotations

from pathlib import Path

from dynadfq.report.render import write_report
from stages.runtime import begin, main


def run() -> None:
    """Read artifacts/, write reports/."""
    report = begin("plot").report
    write_report(
        Path("artifacts"), Path("reports"), title=report.title, grid_images=report.grid_images
    )


if __name__ == "__main__":
    main(run)
