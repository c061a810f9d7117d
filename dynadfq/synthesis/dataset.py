"""The synthetic data set on disk: shards of images with soft labels, and their manifest."""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynadfq.runtime.resume import file_sha256, put
from dynadfq.runtime.spill import read_rows, row_shape

MANIFEST = "manifest.json"


class AlteredShard(ValueError):
    """A file of the set is missing, truncated or not the one the manifest describes."""


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
        if not (self.folder / MANIFEST).exists():
            raise FileNotFoundError(
                f"{self.folder / MANIFEST} does not exist; make the images first (stage synthesize)"
            )
        self.manifest: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text())

    def __len__(self) -> int:
        return int(self.manifest["num_images"])

    def check(self) -> SyntheticSet:
        """Compare every file with the manifest; return the set.

        Raises:
            AlteredShard: names the first file whose sha256 differs, and what to do.
        """
        shards = {shard["file"]: shard["sha256"] for shard in self.manifest["shards"]}
        for name, checksum in {**shards, **self.manifest["files"]}.items():
            path = self.folder / name
            if not path.exists() or file_sha256(path) != checksum:
                state = "has been altered or truncated" if path.exists() else "is missing"
                raise AlteredShard(
                    f"{path} {state}; restore it with `dvc checkout --force`, or make it again "
                    "with `dvc repro -f synthesize`"
                )
        return self

    def save(self, folder: str | Path) -> None:
        """Write the set to a new folder, which is there as a whole or not at all.

        Raises:
            FileExistsError: the folder is not empty.
            AlteredShard: a file of this set is not what was written.
        """
        target = Path(folder)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise FileExistsError(f"folder: {target} is not empty; name a new folder")
        self.check()
        shards = [str(shard["file"]) for shard in self.manifest["shards"]]
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            made = Path(scratch) / target.name
            for name in (*shards, *self.manifest["files"], MANIFEST):
                put(self.folder / name, made / name)
            os.replace(made, target)

    @cached_property
    def _starts(self) -> list[int]:
        """The index of each shard's first image."""
        sizes = [shard["num_images"] for shard in self.manifest["shards"][:-1]]
        return list(accumulate(sizes, initial=0))

    def _path(self, shard: int) -> Path:
        return self.folder / str(self.manifest["shards"][shard]["file"])

    @cached_property
    def _row_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of one image and of its label."""
        return {name: row_shape(self._path(0), name) for name in Batch._fields}

    def take(self, indices: Tensor) -> Batch:
        """Return the images at (B,) indices and their labels, as float32; only they are read.

        Raises:
            IndexError: an index is outside the set.
            ValueError: a shard is no longer what was written (see ``check``).
        """
        # By shard: places in the batch, and rows of the shard.
        wanted: dict[int, tuple[list[int], list[int]]] = {}
        for place, index in enumerate(torch.arange(len(self))[indices].tolist()):
            shard = bisect_right(self._starts, index) - 1
            places, rows = wanted.setdefault(shard, ([], []))
            places.append(place)
            rows.append(index - self._starts[shard])
        shapes = self._row_shapes.items()
        batch = {name: torch.empty(len(indices), *shape) for name, shape in shapes}
        for shard, (places, rows) in wanted.items():
            read_rows(self._path(shard), rows, batch, places)
        return Batch(**batch)

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
        # An earlier version wrote the key with an s.
        recognized = sum(
            shard.get("one_hot_recognized", shard.get("one_hot_recognised")) for shard in shards
        )
        return 100.0 * float(recognized) / float(images)
