"""Accuracy against cost: of networks and controls, and of one student at many bit budgets."""

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dynadfq.report.figures.theme import Theme, new_figure
from dynadfq.report.load import Score
from dynadfq.report.tables import Result

# Markers by role; the theme has a colour of each role's name.
MARKS = {"fixed": "s", "dynamic": "o", "control": "D", "static": "^", "ceiling": "v"}


def accuracy_against_cost(results: Mapping[str, Result], score: Score, theme: Theme) -> Figure:
    """Draw score (%) over bit-FLOPs (% of float) of the students; the float teacher is a line."""
    figure = new_figure(3.3)
    ax = figure.subplots()
    for role, network in results.items():
        if math.isnan(network.score):
            continue
        repeated = not math.isnan(network.score_std)
        error = network.score_std if repeated else standard_error(network.score, score.total)
        label = f"{network.name}\n{network.score:.2f} ± {error:.2f} %"
        if role == "teacher":
            ax.axhline(network.score, color=theme.muted, linewidth=1.3, dashes=(5, 3), label=label)
            continue
        ax.errorbar(
            network.bit_flops_percent,
            network.score,
            yerr=error,
            fmt=MARKS[role],
            markersize=8.5,
            color=getattr(theme, role),
            capsize=4,
            elinewidth=1.6,
            label=label,
            zorder=3 if role == "dynamic" else 2,
        )
    ax.margins(x=0.35, y=0.14)
    _cost_axes(ax, score)
    figure.legend(loc="outside right upper", labelspacing=1.2)
    return figure


def standard_error(percent: float, images: int) -> float:
    """Return the standard error, in points, of a share of so many images.

    >>> standard_error(80.0, 400)
    2.0
    """
    return math.sqrt(percent * (100 - percent) / images)


def accuracy_by_budget(
    budget: pd.DataFrame, score: Score, results: Mapping[str, Result], theme: Theme
) -> Figure:
    """Draw score (%) over bit-FLOPs (% of float): budgets as curves, both students as points."""
    figure = new_figure(3.6)
    ax = figure.subplots()
    dynamic = results["dynamic"]
    fixed = results["fixed"]
    cost = budget["bit_flops_percent"]
    control = budget[f"control_{score.key}"]
    ax.plot(cost, control, "D--", color=theme.control, markersize=5, label="same bits at random")
    ax.plot(cost, budget[score.key], "o-", color=theme.dynamic, label="dynamic, at several budgets")
    [ring] = ax.plot(dynamic.bit_flops_percent, dynamic.score, "o", label="dynamic, as trained")
    ring.set(markersize=12, markerfacecolor="none", markeredgecolor=theme.dynamic)
    [square] = ax.plot(fixed.bit_flops_percent, fixed.score, "s", label=fixed.name.lower())
    square.set(markersize=8, color=theme.fixed)
    ax.margins(y=0.12)
    _cost_axes(ax, score)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _cost_axes(ax: Axes, score: Score) -> None:
    """Label the axes; ticks of a percentage end at 100."""
    low, high = ax.get_ylim()
    ticks = MaxNLocator(6).tick_values(low, high)
    ax.set_yticks([tick for tick in ticks if low <= tick <= min(high, 100)])
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel("bit-FLOPs per image (% of the float network)")
    ax.set_ylabel(f"{score.name} (%)")
