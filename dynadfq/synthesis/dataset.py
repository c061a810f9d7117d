"""The synthetic data set on disk: shards of images with soft labels, and a manifest that vouches for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

MANIFEST = "manifest.json"
LABEL_TERMS = {"class", "agreement"}  # of image objectives; without one no image is of its label


class AlteredShard(ValueError):
    """A file of the set is missing, truncated or not the one the manifest describes."""


class Batch(NamedTuple):
    """Images with their soft labels."""

    images: Tensor  # (B, C, H, W), normalised
    soft_labels: Tensor  # (B, classes), rows sum to 1


class SyntheticSet:
    """A folder of shards. Shards are mapped into memory and read where they are indexed; none is held.

    Args:
        folder: what ``synthesize`` wrote.
        keep_alive: an object that must live as long as the set, such as a temporary folder.
    """

    def __init__(self, folder: str | Path, keep_alive: object = None) -> None:
        self.folder, self._keep_alive = Path(folder), keep_alive
        if not (self.folder / MANIFEST).exists():
            raise FileNotFoundError(
                f"{self.folder / MANIFEST} does not exist; make the images first (stage synthesize)"
            )
        self.manifest: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text())

    def __len__(self) -> int:
        return int(self.manifest["num_images"])

    def check(self) -> SyntheticSet:
        """Compare every file with the manifest, and return the set.

        Raises:
            AlteredShard: names the first file whose sha256 differs, and what to do.
        """
        files = {shard["file"]: shard["sha256"] for shard in self.manifest["shards"]} | self.manifest["files"]
        for name, checksum in files.items():
            path = self.folder / name
            if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
                state = "has been altered or truncated" if path.exists() else "is missing"
                raise AlteredShard(
                    f"{path} {state}; restore it with `dvc checkout --force`, or make it again with "
                    "`dvc repro -f synthesize`"
                )
        return self

    @cached_property
    def _shards(self) -> list[dict[str, Tensor]]:
        return [safetensors.torch.load_file(self.folder / shard["file"]) for shard in self.manifest["shards"]]

    @cached_property
    def _places(self) -> list[tuple[int, int]]:
        return [(s, i) for s, shard in enumerate(self._shards) for i in range(len(shard["images"]))]

    def take(self, indices: Tensor) -> Batch:
        """The images at (B,) indices."""
        places = [self._places[i] for i in indices.tolist()]
        images = torch.stack([self._shards[s]["images"][i] for s, i in places])
        return Batch(images, torch.stack([self._shards[s]["soft_labels"][i] for s, i in places]))

    def batches(self, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """All images, or the first ``limit``, in order."""
        for indices in torch.arange(min(len(self), limit or len(self))).split(batch_size):
            yield self.take(indices)

    @property
    def one_hot_recognised(self) -> float | None:
        """Percent of the one-hot images that the teacher assigns to their class; None where labels shaped no image."""
        shards = self.manifest["shards"]
        images = sum(shard["one_hot_images"] for shard in shards)
        if not images or not LABEL_TERMS & set(shards[0]["losses"]):
            return None
        return 100.0 * float(sum(shard["one_hot_recognised"] for shard in shards)) / float(images)
