"""The loop that makes a synthetic data set: one shard after another, each from its own seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from dynadfq.ops.config import Precision
from dynadfq.runtime import distributed
from dynadfq.runtime.artifact import DamagedArtifact, read_record, record_bytes
from dynadfq.runtime.described_file import pending, settle
from dynadfq.runtime.errors import require_choice
from dynadfq.runtime.locks import locked
from dynadfq.runtime.memory import kept_memory
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.resume import Scratch, atomic_write, put, remove_leftovers
from dynadfq.runtime.seeding import generator
from dynadfq.synthesis.config import Storage
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.manifest import MANIFEST, Manifest
from dynadfq.synthesis.shards import ShardFolder
from dynadfq.synthesis.source import ImageSource


@kept_memory()
def synthesize_set(
    source: ImageSource,
    num_images: int,
    batch_size: int,
    seed: int,
    folder: Path,
    scratch: Scratch,
    keep_alive: object = None,
    storage: Storage = "float32",
    precision: Precision | None = None,
) -> SyntheticSet:
    """Make images in shards and write them to a folder; one shard at a time is in memory.

    A shard depends on the seed and its number alone, unless its source says that shards build on
    each other. Finished shards wait in ``scratch`` (or ``folder`` without one), so that a run which
    was killed makes the missing ones and ends with the same bytes. Ranks
    (``dynadfq.runtime.distributed``) take turns: shard i is made by rank (i mod ranks), in a folder
    that all of them see, and the first writes the manifest.

    Args:
        source: makes the images.
        num_images: how many.
        batch_size: images per shard.
        seed: the same seed gives the same bytes.
        folder: of the set.
        scratch: of unfinished work.
        keep_alive: see ``SyntheticSet``.
        storage: number type of the images; labels stay float32.
        precision: in which the caller lets the source compute, for the manifest.

    Raises:
        InvalidArgument: the storage is unknown, or cannot hold an image.
        FileNotFoundError: another rank's shards do not appear.
    """
    require_choice("storage", storage, get_args(Storage))
    with distributed.on_first_rank(scratch.claimed):
        _synthesize(source, num_images, batch_size, seed, folder, scratch, storage, precision)
    return SyntheticSet(folder, keep_alive)


def _synthesize(
    source: ImageSource,
    num_images: int,
    batch_size: int,
    seed: int,
    folder: Path,
    scratch: Scratch,
    storage: Storage,
    precision: Precision | None,
) -> None:
    shards = ShardFolder(scratch.folder or folder, seed, storage)
    sizes = [min(batch_size, num_images - start) for start in range(0, num_images, batch_size)]
    own = _own_shards(len(sizes), source.sequential)
    notes: list[dict[str, Any] | None] = [None] * len(sizes)
    for number in own:
        notes[number] = shards.finished(number, sizes[number])
    done = sum(notes[number] is not None for number in own)
    total = source.preparation_steps + len(own) * source.steps
    with Progress("synthesize", total, done * source.steps, "iteration") as progress:
        with distributed.first_rank_first():  # the others find its results in the scratch folder
            files = source.prepare(seed, scratch, progress)
        for number in own:
            if notes[number] is None:
                shard = source.make(sizes[number], generator(seed, "synthesis", number), progress)
                notes[number] = shards.write(number, shard)
            if source.sequential:
                source.remember(shards.read(number))
    distributed.barrier()
    if distributed.rank() == 0:
        manifest = {
            "batch_size": batch_size,
            "num_images": num_images,
            "seed": seed,
            "precision": precision,
            "storage": storage,
            "shards": [note or shards.wait_for(n, sizes[n]) for n, note in enumerate(notes)],
        }
        with locked(folder / ".lock", f"another process writes {folder}; waiting for it"):
            _write_set(folder, shards.folder, files, manifest)
        scratch.delete()
    distributed.barrier()


def _own_shards(count: int, sequential: bool) -> range:
    """Numbers of this rank's shards; the first rank makes all shards that build on each other."""
    if sequential:
        return range(count if distributed.rank() == 0 else 0)
    return range(distributed.rank(), count, distributed.world_size())


def _write_set(
    folder: Path, working: Path, files: Mapping[str, bytes], manifest: dict[str, Any]
) -> None:
    """Put finished shards and the set's other files in place.

    At every moment the folder holds the former set or the new one: new files have pending names
    until the manifest is replaced. Files of the former set alone are deleted then.
    """
    remove_leftovers(folder)
    former = _files_of_set(folder)
    shards = {note["file"]: note["sha256"] for note in manifest["shards"]}
    others = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    record = record_bytes({**manifest, "files": others}, Manifest)
    if working != folder:
        for name, checksum in shards.items():
            put(working / name, pending(folder / name, checksum))
    for name, checksum in others.items():
        atomic_write(pending(folder / name, checksum), files[name])
    atomic_write(folder / MANIFEST, record)
    for name, checksum in {**shards, **others}.items():
        settle(folder / name, checksum)
    for name in former.difference(shards, others):
        (folder / name).unlink(missing_ok=True)
    for name in shards:
        (folder / name).with_suffix(".json").unlink(missing_ok=True)


def _files_of_set(folder: Path) -> set[str]:
    """Return the files that a folder's manifest lists; none where it has no sound one."""
    try:
        manifest = read_record(folder / MANIFEST, Manifest)
    except (FileNotFoundError, DamagedArtifact):
        return set()
    return {*(shard.file for shard in manifest.shards), *manifest.files}
