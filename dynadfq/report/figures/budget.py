"""Accuracy against cost along the budget: one student at many budgets, the same bits at random, and
fixed width.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dynadfq.report.figures.headline import MARKERS
from dynadfq.report.figures.theme import LIGHT, Theme, new_figure
from dynadfq.report.score import Score
from dynadfq.report.tables import Result


def accuracy_by_budget(
    budget: pd.DataFrame, score: Score, fixed: Result, trained: Result, theme: Theme = LIGHT
) -> Figure:
    """Score (%) over bit-FLOPs (% of float): a point a budget, the student as trained within a
    ring.
    """
    figure = new_figure(3.6)
    ax = figure.subplots()
    cost = budget["bit_flops_percent"]
    ax.plot(
        cost, budget[f"control_{score.key}"], color=theme.control, marker=MARKERS["control"], markersize=5,
        linestyle=(0, (3, 1.5)), label="same bits at random",
    )  # fmt: skip
    ax.plot(
        cost,
        budget[score.key],
        color=theme.dynamic,
        marker=MARKERS["dynamic"],
        markersize=6,
        label="dynamic, dialled",
    )
    reached = np.array([trained.score, fixed.score], dtype=float)
    ax.plot(
        trained.bit_flops_percent, reached[0], linestyle="none", marker=MARKERS["dynamic"], markersize=12,
        markerfacecolor="none", markeredgecolor=theme.dynamic, markeredgewidth=1.6, label="as trained",
    )  # fmt: skip
    ax.plot(
        fixed.bit_flops_percent, reached[1], linestyle="none", marker=MARKERS["fixed"], markersize=8,
        color=theme.fixed, label=fixed.name.lower(),
    )  # fmt: skip
    ax.margins(y=0.12)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.set_xlabel("bit-FLOPs an image (% of the float network)")
    ax.set_ylabel(f"{score.name} (%)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure
