"""Class-weight similarity beside the classes that occur together in the teacher's predictions
(DynaDFQ, figure 2).
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure

from dynadfq.report.figures.heat import colour_bar, two_maps
from dynadfq.report.figures.theme import LIGHT, Theme
from dynadfq.report.matrices import Floats, off_diagonal


def similarity_and_co_occurrence(
    similarity: Floats, co_occurrence: Floats, names: list[str], theme: Theme = LIGHT
) -> Figure:
    """Two (classes, classes) maps, already in the order to be shown; diagonals say nothing and stay
    blank.
    """
    figure, weights, predictions = two_maps(names)
    weights.set_title("Class weights")
    predictions.set_title("Teacher's predictions")
    _map(weights, similarity, Normalize, theme)
    _map(predictions, co_occurrence, RootNorm, theme)
    colour_bar(weights, "similarity", ".2g")
    colour_bar(predictions, "co-occurrence", ".2g")
    return figure


class RootNorm(PowerNorm):
    """Square-root colour scale: a few pairs of classes hold most of the co-occurrence."""

    def __init__(self, vmin: float, vmax: float) -> None:
        super().__init__(0.5, vmin, vmax)


def _map(ax: Axes, matrix: Floats, norm: type[Normalize] | type[RootNorm], theme: Theme) -> None:
    """Heat map whose colours span the pairs of different classes."""
    pairs = off_diagonal(matrix)
    low, high = (float(pairs.min()), float(pairs.max())) if len(pairs) else (0.0, 1.0)
    blank = np.ma.masked_array(matrix, mask=np.eye(len(matrix), dtype=bool))
    colours = theme.heat_map().with_extremes(bad=theme.faint)
    ax.imshow(blank, cmap=colours, norm=norm(low, max(high, low + 1e-12)), interpolation="nearest")
