"""The synthetic data set on disk: shards of images with soft labels, and their manifest."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynadfq.runtime.artifact import DamagedArtifact, read_record
from dynadfq.runtime.described_file import current
from dynadfq.runtime.resume import file_sha256, put
from dynadfq.runtime.spill import read_rows, tensors_of
from dynadfq.synthesis.manifest import MANIFEST, Manifest

STAGE = Manifest.STAGE
TYPES = {"float32": "F32", "float16": "F16"}  # in safetensors' terms
ROUNDING = 1e-3  # of the sum of a soft label


class Batch(NamedTuple):
    """Images with their soft labels."""

    images: Tensor  # (B, C, H, W), normalized
    soft_labels: Tensor  # (B, classes), rows sum to 1


class SyntheticSet:
    """A folder of shards that is read image by image, so that a set of any size fits in memory.

    Args:
        folder: what ``synthesize`` wrote.
        keep_alive: an object that must live as long as the set, such as a temporary folder.
    """

    def __init__(self, folder: str | Path, keep_alive: object = None) -> None:
        self.folder = Path(folder)
        self._keep_alive = keep_alive
        self._checked: set[int] = set()  # shards whose tensors have the expected types and shapes
        manifest = read_record(self.folder / MANIFEST, Manifest)
        self.manifest: dict[str, Any] = manifest.model_dump(mode="json")

    def __len__(self) -> int:
        return int(self.manifest["num_images"])

    def check(
        self, input_shape: Sequence[int] | None = None, num_classes: int | None = None
    ) -> SyntheticSet:
        """Compare every file with the manifest, and labels with what labels are; return the set.

        Args:
            input_shape: shape of an image that the teacher reads, (C, H, W).
            num_classes: the teacher's.

        Raises:
            DamagedArtifact: names the first file that is not the one of the manifest, or does not
                fit the teacher, and what to do.
        """
        shards = self.manifest["shards"]
        for note in shards:
            self._check_file(note["file"], note["sha256"], note["bytes"])
        for name, checksum in self.manifest["files"].items():
            self._check_file(name, checksum)
        for number in range(len(shards)):
            self._check_labels(number)
        image, label = (self._row_shapes[name] for name in Batch._fields)
        if input_shape is not None and image != tuple(input_shape):
            problem = f"holds images of shape {image}, and the teacher reads {tuple(input_shape)}"
            raise DamagedArtifact(self.folder, problem, STAGE)
        if num_classes is not None and label != (num_classes,):
            problem = f"holds labels of {label[0]} classes, and the teacher has {num_classes}"
            raise DamagedArtifact(self.folder, problem, STAGE)
        return self

    def _check_file(self, name: str, checksum: str, size: int | None = None) -> None:
        path = current(self.folder / name, checksum)
        if not path.is_file():
            raise DamagedArtifact(path, "is missing or not a file", STAGE)
        if size not in (None, path.stat().st_size) or file_sha256(path) != checksum:
            raise DamagedArtifact(path, "has been altered or truncated", STAGE)

    def _check_labels(self, number: int) -> None:
        start, count = self._starts[number], self.manifest["shards"][number]["num_images"]
        labels = self._read(range(start, start + count), ["soft_labels"])["soft_labels"]
        sums = labels.sum(dim=1)
        if not (labels >= 0).all() or not ((sums - 1).abs() <= ROUNDING).all():
            problem = "holds soft labels that are no probabilities"
            raise DamagedArtifact(self._path(number), problem, STAGE)

    def _check_header(self, number: int) -> None:
        """Compare types and shapes of a shard's tensors with the manifest and the first shard's."""
        if number in self._checked:
            return
        count = self.manifest["shards"][number]["num_images"]
        image, label = (self._row_shapes[name] for name in Batch._fields)
        expected = {
            "images": (TYPES[self.manifest["storage"]], (count, *image)),
            "soft_labels": (TYPES["float32"], (count, *label)),
        }
        found = tensors_of(self._path(number))
        if found != expected or len(image) != 3 or len(label) != 1:
            problem = f"holds {found}, where {expected} is expected"
            raise DamagedArtifact(self._path(number), problem, STAGE)
        self._checked.add(number)

    def save(self, folder: str | Path) -> None:
        """Write the set to a new folder, which is there as a whole or not at all.

        Raises:
            FileExistsError: the folder is not empty.
            DamagedArtifact: a file of this set is not what was written.
        """
        target = Path(folder)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise FileExistsError(f"folder: {target} is not empty; name a new folder")
        self.check()
        files = {shard["file"]: shard["sha256"] for shard in self.manifest["shards"]}
        files |= self.manifest["files"]
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            made = Path(scratch) / target.name
            for name, checksum in files.items():
                put(current(self.folder / name, checksum), made / name)
            put(self.folder / MANIFEST, made / MANIFEST)
            os.replace(made, target)

    @cached_property
    def _starts(self) -> list[int]:
        """The index of each shard's first image."""
        sizes = [shard["num_images"] for shard in self.manifest["shards"][:-1]]
        return list(accumulate(sizes, initial=0))

    def _path(self, shard: int) -> Path:
        note = self.manifest["shards"][shard]
        return current(self.folder / note["file"], note["sha256"])

    @cached_property
    def _row_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of one image and of its label."""
        found = tensors_of(self._path(0))
        if missing := [name for name in Batch._fields if name not in found]:
            raise DamagedArtifact(self._path(0), f"lacks {', '.join(missing)}", STAGE)
        return {name: found[name][1][1:] for name in Batch._fields}

    def take(self, indices: Tensor) -> Batch:
        """Return the images at (B,) indices and their labels, as float32; only they are read.

        Raises:
            IndexError: an index is outside the set.
            DamagedArtifact: a shard is not what was written (see ``check``), or a pixel is NaN or
                infinite.
        """
        return Batch(**self._read(torch.arange(len(self))[indices].tolist(), Batch._fields))

    def labels(self, indices: Tensor) -> Tensor:
        """Return the (B, classes) soft labels of the images at (B,) indices; no pixel is read.

        Raises:
            IndexError: an index is outside the set.
            DamagedArtifact: a shard is not what was written, or a label is NaN or infinite.
        """
        rows = torch.arange(len(self))[indices].tolist()
        return self._read(rows, ["soft_labels"])["soft_labels"]

    def _read(self, indices: Sequence[int], names: Sequence[str]) -> dict[str, Tensor]:
        """Return the rows of some tensors at indices into all shards."""
        # By shard: places in the batch, and rows of the shard.
        wanted: dict[int, tuple[list[int], list[int]]] = {}
        for place, index in enumerate(indices):
            shard = bisect_right(self._starts, index) - 1
            places, rows = wanted.setdefault(shard, ([], []))
            places.append(place)
            rows.append(index - self._starts[shard])
        shapes = self._row_shapes
        batch = {name: torch.empty(len(indices), *shapes[name]) for name in names}
        for shard, (places, rows) in wanted.items():
            self._check_header(shard)
            read_rows(self._path(shard), rows, batch, places)
            if not all(tensor[places].isfinite().all() for tensor in batch.values()):
                raise DamagedArtifact(self._path(shard), "holds NaN or infinity", STAGE)
        return batch

    def batches(self, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """Yield all images, or the first ``limit``, in order."""
        for indices in torch.arange(min(len(self), limit or len(self))).split(batch_size):
            yield self.take(indices)

    @property
    def one_hot_recognized(self) -> float | None:
        """Percent of one-hot images whose class the teacher recognizes; None without any."""
        shards = self.manifest["shards"]
        images = sum(shard["one_hot_images"] for shard in shards)
        if not images:
            return None
        recognized = sum(shard["one_hot_recognized"] for shard in shards)
        return 100.0 * float(recognized) / float(images)
