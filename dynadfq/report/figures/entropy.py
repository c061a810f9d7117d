"""Entropy figures: what an image costs by its difficulty, and how difficult the images are
(DynaDFQ, fig. 3 to 5).
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynadfq.report.figures.axes import ENTROPY_LABEL, correlation_text, entropy_axis
from dynadfq.report.figures.theme import LIGHT, Theme, new_figure
from dynadfq.report.measures import Floats, binned_means, entropy_histogram, rank_correlation

GROUP_NAMES = {
    "test": "Test images",
    "one_hot": "Synthetic, one class",
    "soft": "Synthetic, similar classes",
}


def entropy_against_cost(
    test: pd.DataFrame | None, synthetic: pd.DataFrame, theme: Theme = LIGHT
) -> Figure:
    """Bit-FLOPs (percent of float) of each image over its entropy (nats); test images left, if any,
    then synthetic.
    """
    figure = new_figure(3.3)
    tables = {"Synthetic": synthetic} if test is None else {"Test": test, "Synthetic": synthetic}
    panels = figure.subplots(1, len(tables), sharex=True, sharey=True, squeeze=False)[0]
    top = max(float(table["entropy_nats"].max()) for table in tables.values())
    for ax, (name, table) in zip(panels, tables.items(), strict=True):
        _cost_panel(ax, table, theme.dynamic if name == "Test" else theme.one_hot, theme)
        rho = rank_correlation(table["entropy_nats"], table["bit_flops_percent"])
        ax.set_title(f"{name}  {correlation_text(rho)}")
        entropy_axis(ax, "x", top)
    panels[0].set_ylabel("bit-FLOPs (% of float)")
    figure.supxlabel(ENTROPY_LABEL, fontsize=10.5)
    return figure


def _cost_panel(ax: Axes, table: pd.DataFrame, colour: str, theme: Theme) -> None:
    """One dot an image, and the mean of each entropy bin."""
    dots = max(len(table), 1)
    alpha = min(0.6, max(0.05, 12 / math.sqrt(dots)))
    ax.scatter(
        table["entropy_nats"], table["bit_flops_percent"], s=9, c=colour, alpha=alpha, linewidths=0
    )
    means = binned_means(table["entropy_nats"], table["bit_flops_percent"])
    ax.plot(
        means["entropy_nats"], means["value"], "-o", color=theme.ink, markersize=5.5,
        markerfacecolor=theme.background, markeredgewidth=1.6, label="mean",
    )  # fmt: skip


def entropy_distribution(groups: Mapping[str, Floats], theme: Theme = LIGHT) -> Figure:
    """Share of images by entropy (nats), a row for each kind of image; the test images return as
    outline.
    """
    shown = {name: values for name, values in groups.items() if len(values)}
    figure = new_figure(1.2 + 1.15 * len(shown))
    rows = figure.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    table = entropy_histogram(groups)
    edges = [*table["entropy_low"], table["entropy_high"].iloc[-1]]
    colours = {"test": theme.muted, "one_hot": theme.one_hot, "soft": theme.soft}
    for ax, (name, values) in zip(rows, shown.items(), strict=True):
        ax.stairs(table[f"{name}_percent"], edges, fill=True, color=colours[name], alpha=0.85)
        if name != "test" and "test" in shown:
            ax.stairs(table["test_percent"], edges, color=theme.ink, linewidth=1.2)
        ax.set_title(f"{GROUP_NAMES[name]}", fontsize=10.5)
        ax.text(
            1, 0.88, f"n = {len(values):,}   median {np.median(values):.3g}", transform=ax.transAxes,
            ha="right", va="top", fontsize=9.5, color=theme.ink,
        )  # fmt: skip
        ax.grid(axis="x", visible=False)
    entropy_axis(rows[-1], "x", float(edges[-1]))
    figure.supxlabel(ENTROPY_LABEL, fontsize=10.5)
    figure.supylabel("share of images (%)", fontsize=10.5)
    return figure
