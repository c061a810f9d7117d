"""Settings of the report."""

from __future__ import annotations

from dynadfq.runtime.config import Config, setting


class ReportConfig(Config):
    """Contents of the report."""

    title: str | None = setting(
        None, "heading of reports/index.html; null names method, data and widths", min_length=1
    )
    grid_images: int = setting(32, "synthetic images in a grid", unit="images", ge=1, le=1000)
