"""Statistics per layer of several kinds of images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.figures.looks import line_of
from dynadfq.report.figures.entropy import draw_box
from dynadfq.report.figures.theme import LIGHT, Theme, new_figure

LARGEST_BOXES = 7  # layers


def layer_statistics(tables: Mapping[str, pd.DataFrame], theme: Theme = LIGHT) -> Figure:
    """Draw each layer's offset and spread over images, one colour per kind of images.

    The lines are BatchNorm's own statistics.
    """
    layers = sorted(set.intersection(*(set(table["layer"]) for table in tables.values())))
    chosen = [
        layers[i]
        for i in np.unique(np.linspace(0, len(layers) - 1, LARGEST_BOXES).round().astype(int))
    ]
    figure = new_figure(4.9)
    above, below = figure.subplots(2, 1, sharex=True)
    for ax, column, match in ((above, "offset", 0.0), (below, "spread", 1.0)):
        ax.axhline(match, color=theme.ink, linewidth=1.1, zorder=0.5)
        for number, table in enumerate(tables.values()):
            shift = (number - (len(tables) - 1) / 2) * 0.8 / len(tables)
            for place, layer in enumerate(chosen):
                values = table.loc[table["layer"] == layer, column].to_numpy(dtype=float)
                draw_box(
                    ax,
                    place + shift,
                    0.62 / len(tables),
                    values,
                    line_of(number, theme)["color"],
                    theme,
                )
        ax.grid(axis="x", visible=False)
    above.set_ylabel("mean less BN mean\n(in BN deviations)")
    below.set_ylabel("deviation over\nBN deviation")
    below.set_xticks(range(len(chosen)), [str(layer + 1) for layer in chosen])
    below.set_xlabel("BatchNorm layer, in execution order")
    handles = [
        Line2D([], [], color=line_of(number, theme)["color"], linewidth=6, label=name)
        for number, name in enumerate(tables)
    ]
    handles.append(Line2D([], [], color=theme.ink, linewidth=1.1, label="BN statistics"))
    figure.legend(
        handles=handles, loc="outside upper center", ncols=4, handlelength=1, columnspacing=1.4
    )
    return figure
