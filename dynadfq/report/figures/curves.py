"""Learning curves: every loss term, and bit-FLOPs against their target (DynaDFQ, figure 6)."""

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dynadfq.report.figures.theme import Theme, new_figure
from dynadfq.report.tables import AGREEMENT, kept_epoch, loss_terms, mixup_start

UNMIXED = (0, (2, 1.2))  # dashes
TERM_NAMES = {
    "loss": "Total loss",
    "label": "Label cross-entropy",
    "distillation": "Distillation",
    "budget": "Bit budget",
    AGREEMENT: "Agreement on held-back images (%)",
}


def learning_curves_figure(
    histories: Mapping[str, pd.DataFrame], target: float, theme: Theme
) -> Figure:
    """Draw a panel for each loss term over epochs, and one for bit-FLOPs.

    With early stopping there is one for agreement on the images held back, too.

    Args:
        histories: of the students "dynamic" and "fixed", by name.
        target: bit-FLOPs in percent of float.
        theme: the colours.
    """
    # The sum says nothing that its terms do not.
    terms = [term for term in loss_terms(histories) if term != "loss"] or ["loss"]
    terms += [AGREEMENT] if any(AGREEMENT in h.columns for h in histories.values()) else []
    rows = math.ceil((len(terms) + 1) / 2)
    figure = new_figure(0.6 + 2.05 * rows)
    grid = figure.add_gridspec(rows, 2)
    for place, term in enumerate(terms):
        ax = figure.add_subplot(grid[place // 2, place % 2])
        for student, history in histories.items():
            _term(ax, history, term, getattr(theme, student), theme)
        _scale(ax, histories, term)
        ax.set_title(TERM_NAMES.get(term, term.replace("_", " ").capitalize()), fontsize=10.5)
    last = figure.add_subplot(grid[-1, :] if len(terms) % 2 == 0 else grid[-1, 1])
    _cost(last, histories["dynamic"], target, theme)
    for ax in figure.axes:
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.supxlabel("epoch", fontsize=10.5)
    handles = [
        Line2D([], [], color=theme.dynamic, label="dynamic"),
        Line2D([], [], color=theme.fixed, label="fixed (target)"),
    ]
    if any(mixup_start(history) is not None for history in histories.values()):
        handles.append(Line2D([], [], color=theme.muted, linestyle=UNMIXED, label="before mixing"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3, handlelength=1.8)
    return figure


def _term(ax: Axes, history: pd.DataFrame, term: str, colour: str, theme: Theme) -> None:
    """Draw one student's curve; dashed, the same term on the images before mixing."""
    epochs = history["epoch"]
    if term in history.columns:
        ax.plot(epochs, history[term], color=colour)
    if f"{term}_unmixed" in history.columns:
        unmixed = history[f"{term}_unmixed"]
        ax.plot(epochs, unmixed, color=colour, linestyle=UNMIXED, linewidth=1.5)
    kept = kept_epoch(history) if term == AGREEMENT else None
    if kept is not None:
        ax.plot(kept["epoch"], kept[term], color=colour, marker="o")
    start = mixup_start(history)
    if start is not None:
        ax.axvline(start, color=theme.muted, linewidth=1, linestyle=":")


def _scale(ax: Axes, histories: Mapping[str, pd.DataFrame], term: str) -> None:
    """Use a logarithmic scale where a positive term falls by more than a factor of 30."""
    columns = [history[term] for history in histories.values() if term in history.columns]
    values = pd.concat(columns).dropna()
    if term != AGREEMENT and len(values) and values.min() > 0 and values.max() / values.min() > 30:
        ax.set_yscale("log")


def _cost(ax: Axes, history: pd.DataFrame, target: float, theme: Theme) -> None:
    """Draw the mean bit-FLOPs of an image, one standard deviation around it, and the target."""
    mean = history["bit_flops_percent"]
    spread = history["bit_flops_percent_std"].fillna(0.0)
    band = (history["epoch"], mean - spread, mean + spread)
    ax.fill_between(*band, color=theme.dynamic, alpha=0.22, linewidth=0)
    ax.plot(history["epoch"], mean, color=theme.dynamic)
    ax.axhline(target, color=theme.fixed, linewidth=1.5)
    ax.set_title("Bit-FLOPs (% of float)", fontsize=10.5)
