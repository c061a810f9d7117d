"""Prediction entropies by the labels that images were made for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from benchmarks.report.figures.looks import line_of
from dynadfq.report.figures.entropy import ENTROPY_LABEL, entropy_axis
from dynadfq.report.figures.theme import LIGHT, Theme, new_figure
from dynadfq.report.matrices import Floats
from dynadfq.report.tables import entropy_histogram

BINS = 16

Curves = Mapping[str, Floats]


def entropies_by_label(panels: Mapping[str, Curves], theme: Theme = LIGHT) -> Figure:
    """Draw the share of images by entropy, one row per panel and one outline per curve.

    Args:
        panels: entropies in nats by panel and curve (DynaDFQ, Fig. 5).
        theme: colours.
    """
    figure = new_figure(0.9 + 1.6 * len(panels))
    rows = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    everything = {
        f"{panel}/{name}": values
        for panel, curves in panels.items()
        for name, values in curves.items()
    }
    table = entropy_histogram(everything, BINS)
    edges = [*table["entropy_low"], table["entropy_high"].iloc[-1]]
    for ax, (panel, curves) in zip(rows, panels.items(), strict=True):
        for number, (name, values) in enumerate(curves.items()):
            label = f"{name}   median {np.median(values):.2g}"
            share = table[f"{panel}/{name}_percent"]
            ax.stairs(share, edges, linewidth=1.8, label=label, **line_of(number, theme))
        ax.set_title(panel, fontsize=10.5)
        ax.legend(fontsize=8, handlelength=1.2)
        ax.grid(axis="x", visible=False)
    entropy_axis(rows[-1], "x", float(edges[-1]))
    figure.supxlabel(ENTROPY_LABEL, fontsize=10.5)
    figure.supylabel("share of images (%)", fontsize=10.5)
    return figure
