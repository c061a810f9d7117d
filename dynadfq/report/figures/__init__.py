"""Figures of the report: data in, matplotlib Figure out. Draw and save inside `theme.style()`."""

from dynadfq.report.figures.theme import DARK, LIGHT, Theme

__all__ = ["DARK", "LIGHT", "Theme"]
