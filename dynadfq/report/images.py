"""PNG bytes: of figures, and of the synthetic images that the page shows one by one."""

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from PIL import Image

from dynadfq.report.figures import Theme, Tile
from dynadfq.report.figures.tiles import label_parts, to_pixels
from dynadfq.report.load import Evidence, load_images

LARGEST_TILE = 96  # pixels: as large as the page shows one
MARGIN = 0.07  # inches


def draw(build: Callable[[Theme], Figure], theme: Theme, photographs: bool = False) -> bytes:
    """PNG of a figure, without the version stamp that would change its bytes.

    A chart is stored with a palette of 256 colours, a third of the size and no visible difference;
    one that shows photographs is not.
    """
    buffer, small = io.BytesIO(), io.BytesIO()
    with theme.style():
        figure = build(theme)
        figure.savefig(
            buffer, format="png", metadata={"Software": None}, bbox_inches=trimmed(figure)
        )
    image = Image.open(buffer).convert("RGB")
    if not photographs:
        image = image.quantize(256, dither=Image.Dither.NONE)
    image.save(small, format="PNG", optimize=True)
    return small.getvalue()


def trimmed(figure: Figure) -> Bbox:
    """The figure's whole width, and its height without the blank bands that maps of fixed aspect
    leave; inches.
    """
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox()
    return Bbox([[0, drawn.y0 - MARGIN], [float(figure.get_figwidth()), drawn.y1 + MARGIN]])


def load_tiles(artifacts: Path, evidence: Evidence, indices: list[int]) -> list[Tile]:
    """Images of a grid in the order of `indices`."""
    if not indices:
        return []
    names, teacher = evidence.class_names, evidence.teacher
    images, labels = load_images(artifacts, indices)
    rows = evidence.synthetic.set_index("index").loc[indices]
    return [
        Tile(
            index, to_pixels(image, teacher["mean"], teacher["std"]), label_parts(label, names),
            names[int(answer)], float(entropy),
        )
        for index, image, label, answer, entropy in zip(
            indices, images, labels, rows["teacher_prediction"], rows["entropy_nats"], strict=True
        )
    ]  # fmt: skip


def tile_png(pixels: NDArray[np.uint8]) -> bytes:
    """PNG of one tile at its own size; larger images are reduced to what the page shows."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    if max(image.size) > LARGEST_TILE:
        image.thumbnail((LARGEST_TILE, LARGEST_TILE))
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def data_uri(png: bytes) -> str:
    """PNG bytes as an address that needs no second file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
