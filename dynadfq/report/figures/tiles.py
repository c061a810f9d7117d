"""Synthetic images as a reader sees them: denormalized, with what they were made for and what the
teacher sees.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from dynadfq.report.figures.axes import shorten
from dynadfq.report.figures.theme import LIGHT, Theme, new_figure

COLUMNS = 4
LEAST_SHARE = 0.005


@dataclass(frozen=True)
class Tile:
    """One synthetic image: (H, W, 3) pixels, classes and shares of its label, the teacher's answer,
    entropy in nats.
    """

    index: int
    pixels: NDArray[np.uint8]
    label: tuple[tuple[str, float], ...]
    prediction: str
    entropy_nats: float

    @property
    def recognized(self) -> bool:
        """Whether the teacher names a class of the label."""
        return self.prediction in {name for name, _ in self.label}


def to_pixels(
    image: NDArray[np.floating[Any]], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.uint8]:
    """(C, H, W) normalized image to (H, W, 3) bytes; what lies outside the valid range is cut, grey
    becomes RGB.
    """
    shape = (-1, 1, 1)
    unit = image * np.asarray(std).reshape(shape) + np.asarray(mean).reshape(shape)
    bytes_ = (np.clip(unit, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    return np.repeat(bytes_, 3, axis=2) if bytes_.shape[2] == 1 else bytes_[:, :, :3]


def label_parts(
    soft_label: NDArray[np.floating[Any]], names: Sequence[str]
) -> tuple[tuple[str, float], ...]:
    """Classes of a soft label with at least half a percent, largest first."""
    order = np.argsort(-soft_label, kind="stable")
    return tuple((names[i], float(soft_label[i])) for i in order if soft_label[i] >= LEAST_SHARE)


def image_grid(tiles: Sequence[Tile], theme: Theme = LIGHT) -> Figure:
    """Four images a row; under each its soft label as bars, and the teacher's prediction with its
    entropy.
    """
    rows = math.ceil(len(tiles) / COLUMNS)
    figure = new_figure(0.1 + 1.98 * rows)
    for ax in figure.subplots(rows, COLUMNS, squeeze=False).ravel():
        ax.set_axis_off()
    for ax, tile in zip(figure.axes, tiles, strict=False):
        ax.imshow(tile.pixels, interpolation="nearest", extent=(0, 1, 0, 1))
        _label(ax, tile, theme)
        ax.set_xlim(0, 1)
        ax.set_ylim(-0.62, 1)
    return figure


def _label(ax: Axes, tile: Tile, theme: Theme) -> None:
    """Two bars at most, then what the teacher says."""
    for line, (name, share) in enumerate(tile.label[:2]):
        top = -0.06 - 0.18 * line
        ax.add_patch(Rectangle((0, top - 0.15), 1, 0.15, color=theme.faint, linewidth=0))
        ax.add_patch(
            Rectangle((0, top - 0.15), share, 0.15, color=theme.dynamic, alpha=0.4, linewidth=0)
        )
        ax.text(0.03, top - 0.08, shorten(name, 12), fontsize=7.5, va="center")
        ax.text(0.97, top - 0.08, f"{100 * share:.0f}", fontsize=7.5, va="center", ha="right")
    colour = theme.muted if tile.recognized else theme.soft
    words = f"→ {shorten(tile.prediction, 10)}  {tile.entropy_nats:.2f}"
    ax.text(0.03, -0.53, words, fontsize=7.5, va="center", color=colour)
