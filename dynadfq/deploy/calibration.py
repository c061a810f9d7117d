"""Synthetic images as files that other quantizers calibrate on."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dynadfq.ops.preprocess import MODES, Preprocessing
from dynadfq.runtime.errors import InvalidArgument, shown
from dynadfq.runtime.resume import atomic_write
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

Values = Literal["float32", "uint8"]
Layout = Literal["nchw", "nhwc"]
READ_AT_ONCE = 64  # images


class CalibrationFiles(NamedTuple):
    """What was written.

    path: the file or folder.
    name: the key of the array, for ``.npz``.
    shape: of all images; of one image in a folder of PNG files.
    dtype: of the values.
    clipped_percent: share of pixels outside 0 … 255, which are cut where values are uint8.
    """

    path: Path
    name: str | None
    shape: tuple[int, ...]
    dtype: str
    clipped_percent: float


def input_name(teacher: Teacher) -> str:
    """Return the name that ``torch.onnx.export`` gives the input: forward's first parameter."""
    return next(iter(inspect.signature(teacher.module.forward).parameters))


def check_target(
    path: Path,
    preprocessing: Preprocessing,
    name: str | None = None,
    values: Values | None = None,
    layout: Layout | None = None,
) -> None:
    """Check a path for calibration images before they are made.

    Args:
        path, preprocessing: see ``write_calibration``.
        name, values, layout: as the user gave them; None was not given.

    Raises:
        InvalidArgument: its kind is unknown or cannot hold the images, or an argument has no effect
            on such a file.
    """
    if path.suffix in (".npz", ".npy"):
        if path.is_dir():
            raise InvalidArgument("to", f"{path} is a folder; name a file")
    elif not _is_folder(path):
        raise InvalidArgument(
            "to",
            f"{path} must end in .npz or .npy, or be a folder; make one with a dot in its name "
            "first",
        )
    elif preprocessing.input_shape[0] not in MODES:
        raise InvalidArgument(
            "to",
            f"images of {preprocessing.input_shape[0]} channels cannot be PNG files; "
            "name a file that ends in .npz",
        )
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InvalidArgument("to", f"{path} exists and is no empty folder; name a new one")
    folder = _is_folder(path)
    for argument, value, without, purpose in (
        ("name", name, path.suffix != ".npz", "the key in an .npz file"),
        ("values", values, folder, "what an array holds"),
        ("layout", layout, folder, "the order of an array's axes"),
    ):
        if value is not None and without:
            kind = "gets PNG files" if folder else f"is a {path.suffix} file"
            raise InvalidArgument(
                argument, f"{shown(value)} is for {purpose}, and {path} {kind}; leave it out"
            )


def _is_folder(path: Path) -> bool:
    """Whether a path is for PNG files."""
    return path.is_dir() or not path.suffix


def require_key(path: Path, name: str) -> None:
    """Check the name of the network's input as a key of the file, if it is an ``.npz`` file.

    Raises:
        InvalidArgument: it is empty, or an argument of NumPy's function.
    """
    if path.suffix == ".npz" and name in ("", "file", "allow_pickle"):
        raise InvalidArgument("name", f"{name!r} is no key that an .npz file can have")


def write_calibration(
    images: SyntheticSet,
    path: Path,
    preprocessing: Preprocessing,
    name: str = "images",
    values: Values = "float32",
    layout: Layout = "nchw",
) -> CalibrationFiles:
    """Write images for the calibration of another quantizer.

    Args:
        images: the synthetic images.
        path: ``.npz`` holds one array under ``name``, ``.npy`` the array alone; a folder gets PNG
            files, all at once, whose pixels are rounded to whole numbers in 0 … 255.
        preprocessing: of the network.
        name: of the network's input.
        values: "float32" for normalized values, as the network reads them, or "uint8" for
            pixels, where normalization is a part of the model.
        layout: of an array, "nchw" or "nhwc".

    Raises:
        InvalidArgument: the path's kind is unknown or cannot hold the images, or the name is no key
            of an ``.npz`` file.
    """
    check_target(path, preprocessing)
    require_key(path, name)
    folder = _is_folder(path)
    unfinished = path.with_name(f".{path.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a call that was killed
    count = len(images)
    array: NDArray[np.generic] | None = None
    clipped = 0.0
    for start, batch in _parts(images):
        pixels = preprocessing.denormalize(batch)
        clipped += float(((pixels < -0.5) | (pixels > 255.5)).double().mean()) * len(batch)
        part = pixels.round().clamp(0, 255).byte() if folder or values == "uint8" else batch
        if folder:
            _write_png(part, unfinished, start)
            continue
        ordered = (part if layout == "nchw" else part.movedim(1, -1)).numpy()
        if array is None:
            array = np.empty((count, *ordered.shape[1:]), ordered.dtype)
        array[start : start + len(ordered)] = ordered
    percent = 100 * clipped / count
    if array is None:
        path.mkdir(parents=True, exist_ok=True)
        unfinished.replace(path)
        _, height, width = preprocessing.input_shape
        shape = (height, width, preprocessing.input_shape[0])
        return CalibrationFiles(path, None, shape, "uint8", percent)
    content = BytesIO()
    if path.suffix == ".npz":
        np.savez(content, **{name: array})  # type: ignore[arg-type]  # allow_pickle comes first
    else:
        np.save(content, array)
    atomic_write(path, content.getvalue())
    key = name if path.suffix == ".npz" else None
    return CalibrationFiles(path, key, array.shape, str(array.dtype), percent)


def _parts(images: SyntheticSet) -> Iterator[tuple[int, Tensor]]:
    """Yield batches with the number of their first image."""
    start = 0
    for batch in images.batches(READ_AT_ONCE):
        yield start, batch.images
        start += len(batch.images)


def _write_png(pixels: Tensor, folder: Path, start: int) -> None:
    """Write (B, C, H, W) uint8 pixels as 00000.png and so on."""
    for number, image in enumerate(pixels, start):
        mode = MODES[len(image)]
        array = image.movedim(0, -1).squeeze(-1) if mode == "L" else image.movedim(0, -1)
        content = BytesIO()
        Image.fromarray(array.contiguous().numpy(), mode).save(content, "png")
        atomic_write(folder / f"{number:05}.png", content.getvalue())
