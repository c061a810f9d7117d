"""Shards on their way to a synthetic data set: files that are finished wait for the others."""

from __future__ import annotations

import hashlib
import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.resume import (
    atomic_write,
    file_sha256,
    read_sealed,
    set_aside,
    write_sealed,
)
from dynadfq.runtime.seeding import derive
from dynadfq.synthesis.config import Storage
from dynadfq.synthesis.dataset import Batch
from dynadfq.synthesis.source import Shard

DTYPES: dict[Storage, torch.dtype] = {"float32": torch.float32, "float16": torch.float16}
# Seconds until a file written elsewhere is seen: NFS caches the content of a folder for 60.
VISIBLE_WITHIN = 90.0


def stored(images: Tensor, storage: Storage) -> Tensor:
    """Return (B, C, H, W) float32 images in the type in which they are stored.

    float16 rounds to 11 significant bits.

    >>> stored(torch.tensor([1.0, 1.0004]), "float16").float()
    tensor([1., 1.])

    Raises:
        InvalidArgument: a pixel is beyond the type's range.
    """
    limit = torch.finfo(DTYPES[storage]).max
    largest = images.abs().amax().item()
    if largest > limit:
        raise InvalidArgument(
            "storage",
            f"{storage} holds pixels up to ±{limit:g}, but one is ±{largest:g}; lower the "
            "learning rate of synthesis, or store float32",
        )
    return images.to(DTYPES[storage])


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05d}.safetensors"


@dataclass(frozen=True)
class ShardFolder:
    """A folder of shards, each with a note that becomes its entry in the manifest.

    folder: where they lie until the set is complete.
    seed: seed of the set.
    storage: number type of the images; labels are float32.
    """

    folder: Path
    seed: int
    storage: Storage

    def path(self, number: int) -> Path:
        """Return the file of a shard."""
        return self.folder / shard_name(number)

    def _note(self, number: int) -> Path:
        return self.path(number).with_suffix(".json")

    def write(self, number: int, shard: Shard) -> dict[str, Any]:
        """Write a shard and then its note, which marks it as finished; return the note."""
        images = stored(shard.images, self.storage)
        data = safetensors.torch.save({"images": images, "soft_labels": shard.soft_labels})
        note = {
            "bytes": len(data),
            "file": shard_name(number),
            "iterations": shard.iterations,
            "losses": shard.losses,
            "num_images": len(images),
            "seed": derive(self.seed, "synthesis", number),
            "sha256": hashlib.sha256(data).hexdigest(),
            **_recognition(shard),
        }
        atomic_write(self.path(number), data)
        write_sealed(self._note(number), io.BytesIO(json.dumps(note).encode()))
        return note

    def read(self, number: int) -> Batch:
        """Return a whole shard as it will be read from the set."""
        tensors = safetensors.torch.load_file(self.path(number))
        return Batch(tensors["images"].float(), tensors["soft_labels"])

    def finished(self, number: int, size: int) -> dict[str, Any] | None:
        """Return the note of the same shard if an earlier run finished it.

        A file that was damaged since is set aside.
        """
        path = self.path(number)
        data = read_sealed(self._note(number))
        if data is None:
            return None
        note: dict[str, Any] = json.loads(data)
        same = {"num_images": size, "seed": derive(self.seed, "synthesis", number)}
        if {name: note[name] for name in same} != same:
            return None
        if not (path.is_file() and file_sha256(path) == note["sha256"]):
            set_aside(path)
            return None
        images = safetensors.torch.load_file(path)["images"]
        return note if images.dtype == DTYPES[self.storage] else None

    def wait_for(self, number: int, size: int) -> dict[str, Any]:
        """Return the note of another rank's shard; a shared folder may show it with a delay.

        Raises:
            FileNotFoundError: it does not appear.
        """
        end = time.monotonic() + VISIBLE_WITHIN
        while (note := self.finished(number, size)) is None:
            if time.monotonic() >= end:
                raise FileNotFoundError(
                    f"{self.path(number)} was made by another rank and does not appear; give all "
                    "ranks the same folder"
                )
            time.sleep(1)
        return note


def _recognition(shard: Shard) -> dict[str, int]:
    """Number of images made for one class, and of those that the teacher assigns to it."""
    one_hot = (shard.soft_labels.amax(dim=1) == 1) & shard.of_labels
    agree = shard.logits.argmax(dim=1) == shard.soft_labels.argmax(dim=1)
    return {
        "one_hot_images": int(one_hot.sum()),
        "one_hot_recognized": int((one_hot & agree).sum()),
    }
