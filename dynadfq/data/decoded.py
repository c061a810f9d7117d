"""Image files: decoded when they are taken, or all into a file that is mapped into memory.

A mapped file is read page by page, so that a set may be of any size.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from dynadfq.data.classes import ClassOrder
from dynadfq.data.labelled import LabelledSet
from dynadfq.ops.preprocess import Preprocessing, read_image
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.resume import fingerprint, set_aside

AT_ONCE = 256  # images that wait to be written
FORMAT = 1  # raised when the same files would be decoded to other bytes


@dataclass(frozen=True)
class LabelledFiles:
    """Labelled image files, none of them decoded yet."""

    preprocessing: Preprocessing  # what makes the pixels, and what normalizes them
    paths: Sequence[Path]
    labels: Tensor  # (N,) int64
    classes: ClassOrder  # how the data set's classes were matched with the network's

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, indices: Tensor) -> Tensor:
        """Decode some images: (B,) indices to (B, C, H, W) float32, normalized."""
        paths = [self.paths[index] for index in indices.tolist()]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            pixels = [*pool.map(lambda path: read_image(path, self.preprocessing), paths)]
        return self.preprocessing.normalize(torch.stack(pixels))

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Decode all images in order and keep none: see ``LabelledSet.batches``."""
        for indices in torch.arange(len(self)).split(batch_size):
            yield self.images(indices), self.labels[indices]

    def decoded(self, scratch: Path) -> LabelledSet:
        """Decode all images, into a folder of ``scratch``."""
        pixels = decoded_files(self.paths, self.preprocessing, scratch)
        return LabelledSet(self.preprocessing, pixels, self.labels, self.classes)


def decoded_files(paths: Sequence[Path], preprocessing: Preprocessing, scratch: Path) -> Tensor:
    """Return image files as (N, C, H, W) uint8, mapped from a file that later runs use again.

    The file is identified by the images' names, sizes and times, and by how they are scaled.
    Decoding that was interrupted continues after the last image it wrote; two processes never
    decode the same images at the same time.

    Raises:
        ValueError: names the first file that is not an image.
    """
    shape = (len(paths), *preprocessing.input_shape)
    files = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    scaling = {
        name: value for name, value in asdict(preprocessing).items() if name not in ("mean", "std")
    }
    folder = scratch / f"images-{fingerprint(FORMAT, files, scaling)}"
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / "pixels.bin"
    part = folder / "pixels.part"
    with FileLock(folder / "lock"):
        if not whole.is_file() or whole.stat().st_size != prod(shape):
            set_aside(whole)
            _decode(paths, preprocessing, part)
            os.replace(part, whole)
    return torch.from_file(str(whole), shared=False, size=prod(shape), dtype=torch.uint8).view(
        shape
    )


def _decode(paths: Sequence[Path], preprocessing: Preprocessing, part: Path) -> None:
    """Append to ``part`` the images that it lacks, in order, decoded by several threads."""
    image = prod(preprocessing.input_shape)  # bytes
    with (
        open(part, "ab") as file,
        ThreadPoolExecutor(os.cpu_count()) as pool,
        Progress("decode", len(paths), done=file.tell() // image, unit="image") as progress,
    ):
        file.truncate(progress.done * image)  # a kill may have left a part of an image
        for first in range(progress.done, len(paths), AT_ONCE):
            for pixels in pool.map(
                lambda path: read_image(path, preprocessing), paths[first : first + AT_ONCE]
            ):
                file.write(pixels.numpy().tobytes())
                progress.step()
        file.flush()
        os.fsync(file.fileno())
