"""Learning curves of both students: every loss term, and the cost of an image against its target
(DynaDFQ, fig. 6).
"""

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dynadfq.report.figures.theme import LIGHT, Theme, new_figure
from dynadfq.report.tables import loss_terms, mixup_start

TERM_NAMES = {
    "loss": "Total loss",
    "label": "Label cross-entropy",
    "distillation": "Distillation",
    "budget": "Bit budget",
}


def learning_curves_figure(
    histories: Mapping[str, pd.DataFrame], target: float, theme: Theme = LIGHT
) -> Figure:
    """A panel for each loss term (value as logged, over epochs) and one for bit-FLOPs; `target` in
    percent of float.
    """
    terms = loss_terms(histories)
    terms = [
        term for term in terms if term != "loss"
    ] or terms  # the sum says nothing that its terms do not
    rows = math.ceil((len(terms) + 1) / 2)
    figure = new_figure(0.6 + 2.05 * rows)
    grid = figure.add_gridspec(rows, 2)
    for place, term in enumerate(terms):
        ax = figure.add_subplot(grid[place // 2, place % 2])
        for student, history in histories.items():
            _term(ax, history, term, theme.dynamic if student == "dynamic" else theme.fixed, theme)
        _scale(ax, histories, term)
        ax.set_title(TERM_NAMES.get(term, term.replace("_", " ").capitalize()), fontsize=10.5)
    last = figure.add_subplot(grid[-1, :] if len(terms) % 2 == 0 else grid[-1, 1])
    _cost(last, histories["dynamic"], target, theme)
    for ax in figure.axes:
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.supxlabel("epoch", fontsize=10.5)
    figure.legend(
        handles=_legend(histories, theme), loc="outside upper center", ncols=3, handlelength=1.8
    )
    return figure


def _term(ax: Axes, history: pd.DataFrame, term: str, colour: str, theme: Theme) -> None:
    """One student's curve; dashed, the same term on the images as they were before mixing."""
    if term in history.columns:
        ax.plot(history["epoch"], history[term], color=colour)
    if f"{term}_unmixed" in history.columns:
        ax.plot(
            history["epoch"],
            history[f"{term}_unmixed"],
            color=colour,
            linestyle=(0, (2, 1.2)),
            linewidth=1.5,
        )
    start = mixup_start(history)
    if start is not None:
        ax.axvline(start, color=theme.muted, linewidth=1, linestyle=":")


def _scale(ax: Axes, histories: Mapping[str, pd.DataFrame], term: str) -> None:
    """Logarithmic where a positive term falls by more than a factor of 30."""
    values = pd.concat(
        [history[term] for history in histories.values() if term in history.columns]
    ).dropna()
    if len(values) and values.min() > 0 and values.max() / values.min() > 30:
        ax.set_yscale("log")


def _cost(ax: Axes, history: pd.DataFrame, target: float, theme: Theme) -> None:
    """Mean bit-FLOPs of an image, one standard deviation around it, and the fixed student as the
    target.
    """
    mean, spread = history["bit_flops_percent"], history["bit_flops_percent_std"].fillna(0.0)
    ax.fill_between(
        history["epoch"], mean - spread, mean + spread, color=theme.dynamic, alpha=0.22, linewidth=0
    )
    ax.plot(history["epoch"], mean, color=theme.dynamic)
    ax.axhline(target, color=theme.fixed, linewidth=1.5)
    ax.set_title("Bit-FLOPs (% of float)", fontsize=10.5)


def _legend(histories: Mapping[str, pd.DataFrame], theme: Theme) -> list[Line2D]:
    """Handles for what is really drawn: students, and the unmixed curve where one of them mixes."""
    handles = [
        Line2D([], [], color=theme.dynamic, label="dynamic"),
        Line2D([], [], color=theme.fixed, label="fixed (target)"),
    ]
    if any(mixup_start(history) is not None for history in histories.values()):
        handles.append(
            Line2D([], [], color=theme.muted, linestyle=(0, (2, 1.2)), label="before mixing")
        )
    return handles
