"""Shared by the grid's figures: which lines can be drawn, and the style of each method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.report.results import Line
from dynadfq.report.figures.theme import Theme

MARKERS = "osD^vP"
LINES = ("-", "--", ":", "-.")


def measured(lines: Sequence[Line]) -> list[Line]:
    """Return the lines that have an accuracy and a cost."""
    return [line for line in lines if line.top1 is not None and line.bit_flops_percent is not None]


def timed(lines: Sequence[Line]) -> list[Line]:
    """Return the lines that have an accuracy and a time."""
    return [line for line in lines if line.top1 is not None and line.seconds is not None]


def colours(theme: Theme) -> list[str]:
    """Return the colours of series."""
    return [theme.dynamic, theme.fixed, theme.one_hot, theme.control, theme.soft, theme.muted]


def line_of(number: int, theme: Theme) -> dict[str, Any]:
    """Return a colour and a line style, a different pair for each of the first 24 series."""
    known = colours(theme)
    style = LINES[number // len(known) % len(LINES)]
    return {"color": known[number % len(known)], "linestyle": style}


def look_of(number: int, theme: Theme) -> dict[str, Any]:
    """Return a colour and a marker, a different pair for each of the first 36 methods."""
    known = colours(theme)
    shift = number // len(known)
    return {"color": known[number % len(known)], "marker": MARKERS[(number + shift) % len(MARKERS)]}


def costs_of(lines: Sequence[Line]) -> list[float]:
    """Return bit-FLOPs in percent of the float model."""
    return [line.bit_flops_percent or 0.0 for line in lines]


def accuracies_of(lines: Sequence[Line]) -> list[float]:
    """Return top-1 accuracies in percent."""
    return [line.top1 or 0.0 for line in lines]
