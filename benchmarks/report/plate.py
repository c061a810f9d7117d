"""A figure of a grid's page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from matplotlib.figure import Figure

from dynadfq.report.figures import Theme
from dynadfq.report.figures.tiles import Tile

NO_ROWS: Mapping[str, Sequence[Tile]] = MappingProxyType({})


class Plate(NamedTuple):
    """A figure with its title and caption.

    name: stem of its file in the report's `figures`.
    draw: makes the figure in a theme.
    rows: images that the page shows one by one in place of the PNG, by heading of their row; one
        for each of ``classes``.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Theme], Figure]
    classes: Sequence[str] = ()
    rows: Mapping[str, Sequence[Tile]] = NO_ROWS
