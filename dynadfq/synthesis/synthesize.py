"""The loop that makes a synthetic data set: one shard after another, each from its own seed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch

from dynadfq.runtime import distributed
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.resume import Scratch, atomic_write, file_sha256, put
from dynadfq.runtime.seeding import derive, generator
from dynadfq.synthesis.config import Storage
from dynadfq.synthesis.dataset import MANIFEST, Batch, SyntheticSet
from dynadfq.synthesis.source import ImageSource, Shard
from dynadfq.synthesis.storage import DTYPES, require_known, stored

VISIBLE_WITHIN = 90.0  # seconds until a file written elsewhere is seen: NFS keeps what it knows of a folder for 60


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

    A shard depends on the seed and its number alone, unless its source says that shards build on
    each other. Finished shards wait in ``scratch`` (or ``folder`` without one), so that a run which
    was killed makes the missing ones and ends with the same bytes. Of the images, a shard at a time
    is in memory. Ranks (``dynadfq.runtime.distributed``) take turns: shard i is rank (i mod
    ranks)'s, in a folder that all of them see, and the first writes the manifest.

    storage: the type in which shards hold the images; labels stay float32.

    Raises:
        ValueError: the storage is unknown, or cannot hold an image.
        FileNotFoundError: another rank's shards do not appear.
    """
    require_known(storage)
    working = scratch.folder or folder
    sizes = [min(batch_size, num_images - start) for start in range(0, num_images, batch_size)]
    entries = [_finished(working, number, size, seed, storage) for number, size in enumerate(sizes)]
    mine = _own_shards(len(sizes), source.sequential)
    done = sum(entries[number] is not None for number in mine)
    total = source.preparation_steps + len(mine) * source.steps
    with Progress("synthesize", total, done * source.steps, "iteration") as progress:
        with (
            distributed.first_rank_first()
        ):  # it learns; the others find in the scratch folder what it learned
            files = source.prepare(seed, scratch, progress)
        for number in mine:
            entry = entries[number] or _make_shard(
                source, number, sizes[number], seed, working, storage, progress
            )
            entries[number] = entry
            if source.sequential:
                source.remember(_read(working / _name(number)))
    distributed.barrier()
    if distributed.rank() == 0:
        shards = [
            entry or _made(working, n, sizes[n], seed, storage) for n, entry in enumerate(entries)
        ]
        about = {
            "batch_size": batch_size,
            "num_images": num_images,
            "seed": seed,
            "storage": storage,
        }
        _write_set(folder, working, files, {**about, "shards": shards})
        scratch.delete()
    distributed.barrier()
    return SyntheticSet(folder, keep_alive)


def _own_shards(count: int, sequential: bool) -> range:
    """Numbers of the shards that this rank makes; where shards build on each other, the first rank
    makes them all.
    """
    if sequential:
        return range(count if distributed.rank() == 0 else 0)
    return range(distributed.rank(), count, distributed.world_size())


def _made(working: Path, number: int, size: int, seed: int, storage: Storage) -> dict[str, Any]:
    """The manifest entry of a shard that another rank has made; a shared folder may show it with a
    delay.

    Raises:
        FileNotFoundError: it does not appear.
    """
    end = time.monotonic() + VISIBLE_WITHIN
    while (entry := _finished(working, number, size, seed, storage)) is None:
        if time.monotonic() >= end:
            raise FileNotFoundError(
                f"{working / _name(number)} was made elsewhere: all ranks need the same folder"
            )
        time.sleep(1)
    return entry


def _write_set(
    folder: Path, working: Path, files: Mapping[str, bytes], manifest: dict[str, Any]
) -> None:
    """Put finished shards in place, with the files that belong to the set; the manifest comes
    last.
    """
    names = [entry["file"] for entry in manifest["shards"]]
    folder.mkdir(parents=True, exist_ok=True)
    for name in names if working != folder else ():
        put(working / name, folder / name)
    for name, data in files.items():
        atomic_write(folder / name, data)
    content = {
        **manifest,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    atomic_write(folder / MANIFEST, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
    for name in names:
        (folder / name).with_suffix(".json").unlink(missing_ok=True)


def _name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


def _make_shard(
    source: ImageSource,
    number: int,
    size: int,
    seed: int,
    working: Path,
    storage: Storage,
    progress: Progress,
) -> dict[str, Any]:
    """Make one shard and return its manifest entry, which is written last: a shard without one is
    unfinished.
    """
    shard = source.make(size, generator(seed, "synthesis", number), progress)
    data = safetensors.torch.save(
        {"images": stored(shard.images, storage), "soft_labels": shard.soft_labels}
    )
    entry = {
        "file": _name(number),
        "losses": shard.losses,
        "num_images": size,
        "seed": derive(seed, "synthesis", number),
        "sha256": hashlib.sha256(data).hexdigest(),
        **_recognition(shard),
    }
    atomic_write(working / _name(number), data)
    atomic_write((working / _name(number)).with_suffix(".json"), json.dumps(entry).encode())
    return entry


def _read(path: Path) -> Batch:
    """A whole shard as it will be read from the set."""
    tensors = safetensors.torch.load_file(path)
    return Batch(tensors["images"].float(), tensors["soft_labels"])


def _finished(
    working: Path, number: int, size: int, seed: int, storage: Storage
) -> dict[str, Any] | None:
    """The manifest entry of the same shard, finished by an earlier run, if its bytes are still what
    they were.
    """
    path = working / _name(number)
    note = path.with_suffix(".json")
    if not note.exists() or not path.exists():
        return None
    entry: dict[str, Any] = json.loads(note.read_text())
    same = (entry["num_images"], entry["seed"]) == (size, derive(seed, "synthesis", number))
    if not same or file_sha256(path) != entry["sha256"]:
        return None
    return entry if safetensors.torch.load_file(path)["images"].dtype == DTYPES[storage] else None


def _recognition(shard: Shard) -> dict[str, int]:
    """Number of images made for one class, and of those that the teacher assigns to it."""
    one_hot = (shard.soft_labels.amax(dim=1) == 1) & shard.of_labels
    agree = shard.logits.argmax(dim=1) == shard.soft_labels.argmax(dim=1)
    return {
        "one_hot_images": int(one_hot.sum()),
        "one_hot_recognized": int((one_hot & agree).sum()),
    }
