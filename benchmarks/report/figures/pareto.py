"""Accuracy against cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.figures.looks import accuracies_of, costs_of, look_of, measured
from benchmarks.report.results import Line
from dynadfq.report.figures.theme import LIGHT, Theme, new_figure

LONG_NAME = 24  # letters, more than fit in a third of the width
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
    names = list(dict.fromkeys(line.name for line in lines))
    columns = 2 if max(map(len, names)) > LONG_NAME else 3
    figure = new_figure(3.5 + 0.185 * math.ceil((len(names) + 2) / columns))
    ax = figure.subplots()
    best = front(lines)
    dotted: dict[str, Any] = {"color": theme.muted, "linewidth": 1.1, "linestyle": (0, (1, 1.5))}
    dashed: dict[str, Any] = {"color": theme.muted, "linewidth": 1.2, "linestyle": (0, (5, 3))}
    ax.step(costs_of(best), accuracies_of(best), where="post", **dotted)
    floor = lowest_to_scale(accuracies_of(lines))
    for x, line in zip(costs_of(lines), lines, strict=True):
        look = look_of(names.index(line.name), theme)
        top1 = line.top1 or 0.0
        ax.errorbar(x, max(top1, floor), yerr=line.top1_error, markersize=5, elinewidth=1.1, **look)
        if top1 < floor:
            below: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "top"}
            ax.annotate(f"{top1:.0f}", (x, floor), (0, -5), fontsize=7, **below)
    teachers = sorted({line.teacher_top1 for line in lines if line.teacher_top1 is not None})
    top = max([*accuracies_of(lines), *teachers])
    span = max(top - floor, 0.5)
    ax.set_ylim(floor - 0.09 * span, top + 0.09 * span)
    handles = [
        Line2D([], [], linestyle="none", markersize=5, label=name, **look_of(number, theme))
        for number, name in enumerate(names)
    ]
    handles.append(Line2D([], [], label="best at its cost", **dotted))
    for value in teachers:
        ax.axhline(value, **dashed)
    if teachers:
        handles.append(Line2D([], [], label="float teacher", **dashed))
    ax.set_xlabel("bit-FLOPs per image (% of the float network)")
    ax.set_ylabel("top-1 (%)")
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        fontsize=7.5,
        handlelength=1.6,
        handletextpad=0.5,
        columnspacing=1.2,
        labelspacing=0.35,
    )
    return figure


def lowest_to_scale(accuracies: Sequence[float]) -> float:
    """Return the accuracy below which points are drawn at the edge of the figure.

    >>> lowest_to_scale([94.0, 93.0, 92.0, 90.0, 92.0, 40.0])
    90.0
    """
    best = max(accuracies)
    losses = sorted(best - accuracy for accuracy in accuracies)
    return max(min(accuracies), best - FAR_BELOW * losses[3 * (len(losses) - 1) // 4])
