"""Stage `plot`: what the other stages measured, as files to open. It is cheap, and alone writes `reports/`."""

from pathlib import Path

from dynadfq import params
from dynadfq.report import write_report


def main() -> None:
    """Read `report` from params.yaml and artifacts/, write reports/."""
    report = params.load("plot").report
    write_report(Path("artifacts"), Path("reports"), title=report.title, grid_images=report.grid_images)


if __name__ == "__main__":
    main()
