"""Where the student errs differently from its teacher."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, PowerNorm
from matplotlib.figure import Figure

from dynadfq.report.figures.axes import MINUS
from dynadfq.report.figures.heat import SIDE_BY_SIDE, colour_bar, two_maps
from dynadfq.report.figures.theme import LIGHT, Theme
from dynadfq.report.matrices import Floats


def confusion_against_teacher(
    teacher: Floats, student: Floats, names: list[str], theme: Theme = LIGHT
) -> Figure:
    """Teacher's confusion (percent of each label's images) beside the student's change (percentage
    points).

    Both are (classes, classes), label by prediction, already in the order to be shown.
    """
    figure, before, difference = two_maps(names)
    change = student - teacher
    largest = max(float(np.abs(change).max()), 1.0)
    before.set_title("Teacher")
    difference.set_title(f"Student {MINUS} teacher")
    _map(before, teacher, PowerNorm(0.5, 0, 100), theme.heat_map())
    _map(difference, change, Normalize(-largest, largest), theme.diverging_map())
    colour_bar(before, "% of the row", ".0f")
    colour_bar(difference, "points", ".0f")
    return figure


def _map(ax: Axes, matrix: Floats, norm: Normalize, colours: Colormap) -> None:
    """Heat map with whole numbers in the cells while they can be read; cells below one half stay
    empty.
    """
    ax.imshow(matrix, cmap=colours, norm=norm, interpolation="nearest")
    if len(matrix) > SIDE_BY_SIDE:
        return
    for row, column in zip(*np.nonzero(np.abs(matrix) >= 0.5), strict=True):
        value = float(matrix[row, column])
        red, green, blue, _ = colours(norm(value))
        text = "#ffffff" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "#111111"
        ax.text(
            column,
            row,
            f"{value:.0f}".replace("-", MINUS),
            ha="center",
            va="center",
            fontsize=6.5,
            color=text,
        )
