"""The loop that makes a synthetic data set: one shard after another, each from its own seed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from dynadfq.checkpoint import Scratch, atomic_write, file_sha256, put
from dynadfq.log import Progress
from dynadfq.seeding import derive, generator
from dynadfq.synthesis.dataset import MANIFEST, Batch, SyntheticSet
from dynadfq.synthesis.rows import layouts
from dynadfq.synthesis.source import ImageSource
from dynadfq.synthesis.storage import DTYPES, Storage, require_known, stored


def synthesize_set(
    source: ImageSource,
    num_images: int,
    batch_size: int,
    seed: int,
    folder: Path,
    scratch: Scratch,
    keep_alive: object = None,
    storage: Storage = "float32",
) -> SyntheticSet:
    """Make ``num_images`` images in shards of ``batch_size`` and write them to ``folder``.

    A shard depends on the seed and its number alone, unless its source says that shards build on each other. Finished
    shards wait in ``scratch`` (or ``folder`` without one), so that a run which was killed makes the missing ones and
    ends with the same bytes. Of the images, a shard at a time is in memory.

    storage: the type in which shards hold the images; labels stay float32.

    Raises:
        ValueError: the storage is unknown, or cannot hold an image.
    """
    require_known(storage)
    working = scratch.folder or folder
    sizes = [min(batch_size, num_images - start) for start in range(0, num_images, batch_size)]
    entries = [_finished(working, number, size, seed, storage) for number, size in enumerate(sizes)]
    done = sum(entry is not None for entry in entries)
    steps = source.preparation_steps
    with Progress("synthesize", steps + len(sizes) * source.steps, done * source.steps, "iteration") as progress:
        files = source.prepare(seed, scratch, progress)
        for number, size in enumerate(sizes):
            entry = entries[number] or _make_shard(source, number, size, seed, working, storage, progress)
            entries[number] = entry
            if source.sequential:
                source.remember(_read(working / _name(number)))
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(len(sizes) if working != folder else 0):
        put(working / _name(number), folder / _name(number))
    for name, data in files.items():
        atomic_write(folder / name, data)
    checksums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = {
        "batch_size": batch_size,
        "files": checksums,
        "num_images": num_images,
        "seed": seed,
        "shards": entries,
        "storage": storage,
    }
    atomic_write(folder / MANIFEST, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())
    for number in range(len(sizes)):
        (folder / _name(number)).with_suffix(".json").unlink(missing_ok=True)
    scratch.delete()
    return SyntheticSet(folder, keep_alive)


def _name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


def _make_shard(
    source: ImageSource, number: int, size: int, seed: int, working: Path, storage: Storage, progress: Progress
) -> dict[str, Any]:
    """Make one shard and return its manifest entry, which is written last: a shard without one is unfinished."""
    images, soft_labels, logits, losses = source.make(size, generator(seed, "synthesis", number), progress)
    data = safetensors.torch.save({"images": stored(images, storage), "soft_labels": soft_labels})
    entry = {
        "file": _name(number),
        "losses": losses,
        "num_images": size,
        "seed": derive(seed, "synthesis", number),
        "sha256": hashlib.sha256(data).hexdigest(),
        **_recognition(soft_labels, logits),
    }
    atomic_write(working / _name(number), data)
    atomic_write((working / _name(number)).with_suffix(".json"), json.dumps(entry).encode())
    return entry


def _read(path: Path) -> Batch:
    """A whole shard as it will be read from the set."""
    tensors = safetensors.torch.load_file(path)
    return Batch(tensors["images"].float(), tensors["soft_labels"])


def _finished(working: Path, number: int, size: int, seed: int, storage: Storage) -> dict[str, Any] | None:
    """The manifest entry of the same shard, finished by an earlier run, if its bytes are still what they were."""
    path = working / _name(number)
    note = path.with_suffix(".json")
    if not note.exists() or not path.exists():
        return None
    entry: dict[str, Any] = json.loads(note.read_text())
    same = (entry["num_images"], entry["seed"]) == (size, derive(seed, "synthesis", number))
    intact = file_sha256(path) == entry["sha256"]
    return entry if same and intact and layouts(path)["images"].dtype == DTYPES[storage] else None


def _recognition(soft_labels: Tensor, logits: Tensor) -> dict[str, int]:
    """How many one-hot images there are, and how many of them the teacher takes for their class."""
    one_hot = soft_labels.amax(dim=1) == 1
    agree = logits.argmax(dim=1) == soft_labels.argmax(dim=1)
    return {"one_hot_images": int(one_hot.sum()), "one_hot_recognised": int((one_hot & agree).sum())}
