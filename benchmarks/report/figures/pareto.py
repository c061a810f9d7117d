"""Accuracy against cost, and against time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import StrMethodFormatter

from benchmarks.report.figures.looks import accuracies_of, costs_of, look_of, measured, timed
from benchmarks.report.results import Line
from dynadfq.report.figures.theme import LIGHT, Theme, new_figure

LONG_NAME = 24  # letters, more than fit in a third of the width
PANEL = 2.0  # inches, the height of one panel of several
# Losses against the best line are drawn to scale up to this many times the third quartile.
FAR_BELOW = 2.0


def front(lines: Sequence[Line]) -> list[Line]:
    """Return the Pareto front: lines that no cheaper line equals in accuracy, cheapest first."""
    best, kept = -math.inf, []
    for line in sorted(measured(lines), key=lambda one: (one.bit_flops_percent, -(one.top1 or 0))):
        if line.top1 is not None and line.top1 > best:
            best = line.top1
            kept.append(line)
    return kept


def accuracy_against_cost(lines: Sequence[Line], theme: Theme = LIGHT) -> Figure:
    """Draw top-1 over bit-FLOPs, one colour and marker per method, and the Pareto front.

    Points far below the best stand at the lower edge, with their number. A bar is one standard
    deviation over seeds, or, of one seed, one standard error over the test images.
    """
    lines = measured(lines)
    figure = new_figure(3.5 + legend_height(lines))
    ax = figure.subplots()
    best = front(lines)
    dotted: dict[str, Any] = {"color": theme.muted, "linewidth": 1.1, "linestyle": (0, (1, 1.5))}
    ax.step(costs_of(best), accuracies_of(best), where="post", **dotted)
    draw_points(ax, lines, costs_of(lines), names_of(lines), theme)
    ax.set_xlabel("bit-FLOPs per image (% of the float network)")
    ax.set_ylabel("top-1 (%)")
    draw_legend(
        figure, lines, names_of(lines), theme, [Line2D([], [], label="best at its cost", **dotted)]
    )
    return figure


def accuracy_against_time(lines: Sequence[Line], theme: Theme = LIGHT) -> Figure:
    """Draw top-1 over the time of images and student, one panel per bit-width of the weights.

    Points and bars are as in `accuracy_against_cost`.
    """
    names = names_of(measured(lines))  # colours and markers are those of the figure of costs
    lines = timed(lines)
    panels: dict[str, list[Line]] = {}
    for line in lines:
        panels.setdefault(line.width.partition("A")[0], []).append(line)
    figure = new_figure(0.5 + PANEL * len(panels) + legend_height(lines))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for ax, (width, shown) in zip(axes, panels.items(), strict=True):
        draw_points(ax, shown, [line.seconds or 0.0 for line in shown], names, theme)
        ax.set_ylabel(f"top-1 (%), {width}")
    axes[-1].set_xscale("log")
    axes[-1].xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes[-1].set_xlabel("synthesis and fine-tuning (seconds)")
    draw_legend(figure, lines, names, theme, [])
    return figure


def names_of(lines: Sequence[Line]) -> list[str]:
    """Return the methods, in the order of the lines."""
    return list(dict.fromkeys(line.name for line in lines))


def legend_columns(lines: Sequence[Line]) -> int:
    """Return how many columns the methods' names fit into."""
    return 2 if max(map(len, names_of(lines))) > LONG_NAME else 3


def legend_height(lines: Sequence[Line]) -> float:
    """Return the height in inches of a legend of all methods and two lines."""
    return 0.185 * math.ceil((len(names_of(lines)) + 2) / legend_columns(lines))


def draw_points(
    ax: Axes, lines: Sequence[Line], places: Sequence[float], names: Sequence[str], theme: Theme
) -> None:
    """Draw top-1 of each line at its place, the teachers' as dashed lines, and set the range of y.

    names: of all methods of the figure, whose order gives colour and marker.
    """
    floor = lowest_to_scale(accuracies_of(lines))
    for x, line in zip(places, lines, strict=True):
        look = look_of(names.index(line.name), theme)
        top1 = line.top1 or 0.0
        ax.errorbar(x, max(top1, floor), yerr=line.top1_error, markersize=5, elinewidth=1.1, **look)
        if top1 < floor:
            below: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "top"}
            ax.annotate(f"{top1:.0f}", (x, floor), (0, -5), fontsize=7, **below)
    teachers = teachers_of(lines)
    top = max([*accuracies_of(lines), *teachers])
    span = max(top - floor, 0.5)
    ax.set_ylim(floor - 0.09 * span, top + 0.09 * span)
    for value in teachers:
        ax.axhline(value, **_dashed(theme))


def teachers_of(lines: Sequence[Line]) -> list[float]:
    """Return the teachers' accuracies in percent, each once."""
    return sorted({line.teacher_top1 for line in lines if line.teacher_top1 is not None})


def draw_legend(
    figure: Figure,
    lines: Sequence[Line],
    names: Sequence[str],
    theme: Theme,
    more: Sequence[Line2D],
) -> None:
    """Put the legend of the lines below the figure, with further handles and the teacher's.

    names: as in `draw_points`.
    """
    handles = [
        Line2D(
            [], [], linestyle="none", markersize=5, label=name, **look_of(names.index(name), theme)
        )
        for name in names_of(lines)
    ]
    handles += more
    if teachers_of(lines):
        handles.append(Line2D([], [], label="float teacher", **_dashed(theme)))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=legend_columns(lines),
        fontsize=7.5,
        handlelength=1.6,
        handletextpad=0.5,
        columnspacing=1.2,
        labelspacing=0.35,
    )


def _dashed(theme: Theme) -> dict[str, Any]:
    return {"color": theme.muted, "linewidth": 1.2, "linestyle": (0, (5, 3))}


def lowest_to_scale(accuracies: Sequence[float]) -> float:
    """Return the accuracy below which points are drawn at the edge of the figure.

    >>> lowest_to_scale([94.0, 93.0, 92.0, 90.0, 92.0, 40.0])
    90.0
    """
    best = max(accuracies)
    losses = sorted(best - accuracy for accuracy in accuracies)
    return max(min(accuracies), best - FAR_BELOW * losses[3 * (len(losses) - 1) // 4])
