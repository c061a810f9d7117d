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

from dynadfq.report.figures.theme import Theme
from dynadfq.report.figures.tiles import Tile, label_parts, to_pixels
from dynadfq.report.load import Evidence, load_images

LARGEST_TILE = 96  # pixels: as large as the page shows one
MARGIN = 0.07  # inches


def draw(build: Callable[[Theme], Figure], theme: Theme, photographs: bool = False) -> bytes:
    """Return the PNG of a figure, without the version stamp that would change its bytes.

    A chart is stored with a palette of 256 colours, a third of the size and no visible difference;
    one that shows photographs is not.
    """
    buffer = io.BytesIO()
    with theme.style():
        figure = build(theme)
        box = trimmed(figure)
        figure.savefig(buffer, format="png", metadata={"Software": None}, bbox_inches=box)
    image = Image.open(buffer).convert("RGB")
    if not photographs:
        image = image.quantize(256, dither=Image.Dither.NONE)
    return _png(image)


def trimmed(figure: Figure) -> Bbox:
    """Return the figure's whole width, without the blank bands above and below; inches."""
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox()
    return Bbox([[0, drawn.y0 - MARGIN], [float(figure.get_figwidth()), drawn.y1 + MARGIN]])


def load_tiles(artifacts: Path, evidence: Evidence, indices: list[int]) -> list[Tile]:
    """Read the images of a grid in the order of `indices`."""
    if not indices:
        return []
    names = evidence.class_names
    teacher = evidence.teacher
    images, labels = load_images(artifacts, indices)
    rows = evidence.synthetic.set_index("index").loc[indices]
    predictions = rows["teacher_prediction"].tolist()
    entropies = rows["entropy_nats"].tolist()
    return [
        Tile(
            index=index,
            pixels=to_pixels(images[place].numpy(), teacher["mean"], teacher["std"]),
            label=label_parts(labels[place].numpy(), names),
            prediction=names[predictions[place]],
            entropy_nats=entropies[place],
        )
        for place, index in enumerate(indices)
    ]


def reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W, 3) pixels, those of a large image reduced to what a page shows."""
    image = Image.fromarray(pixels)
    image.thumbnail((LARGEST_TILE, LARGEST_TILE))
    return np.asarray(image)


def tile_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return the PNG of one tile; larger images are reduced to what the page shows."""
    return _png(Image.fromarray(reduced(pixels)))


def data_uri(png: bytes) -> str:
    """Return PNG bytes as an address that needs no second file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
