"""Sets on disk: read row by row, kept in float32 or float16, and never twice on one disk."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import safetensors.torch
import torch
from interrupts import files
from torch import Tensor

from dynadfq.runtime.resume import HASHED_AT_ONCE, Scratch, file_sha256, put
from dynadfq.runtime.spill import read_rows, tensors_of
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.source import Shard
from dynadfq.synthesis.synthesize import synthesize_set

SHAPE = (3, 5, 7)
CLASSES = 4
Make = Callable[..., SyntheticSet]


@dataclass
class Noise:
    """Images that cost nothing to make; remembers what it is told, and is interrupted before a
    shard."""

    scale: float = 1.0
    killed_before: int | None = None
    preparation_steps: int = 0
    steps: int = 0
    sequential: bool = False
    made: int = 0
    remembered: list[Tensor] = field(default_factory=list)

    def prepare(self, seed, scratch, progress):
        return {}

    def make(self, count, rng, progress):
        if self.made == self.killed_before:
            raise KeyboardInterrupt
        self.made += 1
        images = self.scale * torch.randn(count, *SHAPE, generator=rng)
        labels = torch.rand(count, CLASSES, generator=rng).softmax(dim=1)
        return Shard(images, labels, labels, {"total": 0.0}, of_labels=False)

    def remember(self, batch):
        self.remembered.append(batch.images)


@pytest.fixture
def make(tmp_path):
    def run(name="set", source=None, scratch=None, seed=0, storage="float32"):
        return synthesize_set(
            source or Noise(), 10, 4, seed, tmp_path / name, Scratch(scratch), storage=storage
        )

    return run


def tensors(images, name):
    """All rows, by the library."""
    shards = images.manifest["shards"]
    return torch.cat(
        [safetensors.torch.load_file(images.folder / shard["file"])[name] for shard in shards]
    )


def open_files():
    links = Path("/proc/self/fd")
    if not links.exists():
        pytest.skip("lists open files by /proc")
    return {os.readlink(link) for link in links.iterdir() if link.exists()}


@pytest.mark.parametrize("storage", ["float32", "float16"])
@pytest.mark.parametrize("indices", [[3], [9, 0, 4, 4, 8], list(range(10)), [-1, -10], []])
def test_what_is_taken_is_what_was_saved(make, storage, indices):
    images = make(storage=storage)
    batch = images.take(torch.tensor(indices, dtype=torch.int64))
    assert (
        batch.images.shape == (len(indices), *SHAPE)
        and batch.images.dtype == batch.soft_labels.dtype == torch.float32
    )
    assert torch.equal(batch.images, tensors(images, "images").float()[indices])
    assert torch.equal(batch.soft_labels, tensors(images, "soft_labels")[indices])
    assert torch.equal(images.labels(torch.tensor(indices, dtype=torch.int64)), batch.soft_labels)


def test_batches_in_order_do_not_depend_on_shards(make):
    images = make()
    for size in (1, 3, 4, 7, 20):
        assert torch.equal(
            torch.cat([batch.images for batch in images.batches(size)]), tensors(images, "images")
        )


@pytest.mark.parametrize("index", [10, -11])
def test_an_index_outside_the_set(make, index):
    with pytest.raises(IndexError, match=f"index {index} is out of bounds .* size 10"):
        make().take(torch.tensor([index]))


def test_float16_rounds_the_pixels_and_nothing_else(make):
    full = make("full")
    half = make("half", storage="float16")
    everything = torch.arange(10)
    assert torch.equal(half.take(everything).images, full.take(everything).images.half().float())
    assert torch.equal(half.take(everything).soft_labels, full.take(everything).soft_labels)
    assert (
        tensors(half, "images").dtype == torch.float16
        and tensors(half, "soft_labels").dtype == torch.float32
    )
    assert (full.manifest["storage"], half.manifest["storage"]) == ("float32", "float16")
    sizes = [len(images.check().take(everything).images) for images in (full, half)]
    assert sizes == [10, 10]
    assert files(make("again", storage="float16").folder) == files(half.folder)


def test_what_float16_cannot_hold_is_an_error_and_not_infinite(make, tmp_path):
    with pytest.raises(
        ValueError, match=r"storage: float16 holds pixels up to ±65504, but one is ±\d"
    ):
        make(source=Noise(scale=1e5), storage="float16")
    assert not list((tmp_path / "set").glob("shard-*"))
    assert torch.isfinite(make("full", source=Noise(scale=1e5)).take(torch.arange(10)).images).all()


def test_an_unknown_storage(make):
    with pytest.raises(ValueError, match=r'must be one of float32, float16; got "bfloat16"'):
        make(storage="bfloat16")


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_a_source_remembers_images_as_they_are_kept(make, tmp_path, storage):
    """Else a run that goes on would remember others than one that was not interrupted."""
    whole = Noise(sequential=True)
    rest = Noise(sequential=True)
    images = make("whole", whole, storage=storage)
    with pytest.raises(KeyboardInterrupt):
        make("parts", Noise(sequential=True, killed_before=2), storage=storage)
    make("parts", rest, storage=storage)
    assert torch.equal(torch.cat(rest.remembered), torch.cat(whole.remembered))
    assert torch.equal(torch.cat(whole.remembered), images.take(torch.arange(10)).images)


@pytest.mark.parametrize("change", [{"seed": 1}, {"storage": "float16"}])
def test_shards_of_another_set_are_not_taken_for_finished(make, change):
    with pytest.raises(KeyboardInterrupt):
        make("parts", Noise(killed_before=2))
    assert files(make("parts", **change).folder) == files(make("whole", **change).folder)


@pytest.mark.parametrize("disk", ["links", "no links"])
def test_a_set_is_readable_whenever_its_replacement_is_killed(make, tmp_path, monkeypatch, disk):
    """Killed before any of its renames, a run leaves the former set or the new one, and goes on to
    the same bytes."""
    everything = torch.arange(10)
    whole, former = make("whole"), make("former", seed=1).take(everything).images
    original = os.replace
    left = []

    def refuse(*_):
        raise OSError(errno.EXDEV, "another disk")

    if disk == "no links":
        monkeypatch.setattr(os, "link", refuse)
    for last in range(100):
        parts, waiting = tmp_path / f"parts{last}", tmp_path / f"scratch{last}"
        shutil.copytree(tmp_path / "former", parts)
        renames = iter(range(100))

        def killed(source, target, parts=parts, renames=renames, last=last):
            if Path(target).parent == parts and next(renames) == last:
                raise KeyboardInterrupt
            original(source, target)

        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(os, "replace", killed)
            make(parts.name, scratch=waiting)
            break
        found = SyntheticSet(parts).check().take(everything).images
        left.append("former" if torch.equal(found, former) else "new")
        assert left[-1] == "former" or torch.equal(found, whole.take(everything).images)
        again = Noise()
        assert files(make(parts.name, again, scratch=waiting).folder) == files(whole.folder)
        assert again.made == 0 and not waiting.exists()
    assert left == ["former"] * 4 + ["new"] * 3  # three shards and the manifest; then their names


def test_shards_that_move_lie_on_the_disk_once(make, tmp_path, monkeypatch):
    monkeypatch.setattr(Scratch, "delete", lambda self: None)
    images = make(scratch=tmp_path / "scratch")
    waiting = tmp_path / "scratch"
    for shard in images.manifest["shards"]:
        assert os.path.samefile(images.folder / shard["file"], waiting / shard["file"])


def test_a_file_is_put_over_another_and_over_itself(tmp_path):
    source = tmp_path / "source"
    target = tmp_path / "new" / "target"
    source.write_bytes(b"content")
    for old in (None, b"old", b"content"):
        if old == b"old":
            target.unlink()
            target.write_bytes(old)
        put(source, target)
        assert target.read_bytes() == b"content" and [p.name for p in target.parent.iterdir()] == [
            "target"
        ]


@pytest.mark.parametrize("size", [0, 1, HASHED_AT_ONCE, 2 * HASHED_AT_ONCE + 5])
def test_hashing_in_pieces_is_hashing(tmp_path, size):
    content = torch.randint(256, (size,), dtype=torch.uint8).numpy().tobytes()
    (tmp_path / "file").write_bytes(content)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_rows_are_read_to_their_places(tmp_path):
    written = {
        "half": torch.randn(3, 2).half(),
        "images": torch.randn(5, 2, 3),
        "scalars": torch.randn(4),
    }
    safetensors.torch.save_file(written, tmp_path / "file", metadata={"note": "{}"})
    for name, tensor in written.items():
        rows = torch.zeros(4, *tensors_of(tmp_path / "file")[name][1][1:])
        read_rows(tmp_path / "file", [2, 0, 2], {name: rows}, [3, 1, 0])
        assert torch.equal(rows[[3, 1, 0]], tensor[[2, 0, 2]].float()) and not rows[2].any()


@pytest.mark.parametrize("damage", ["truncated", "empty", "no header", "integers"])
def test_a_damaged_shard_is_named_where_it_is_read_and_left_closed(make, damage):
    images = make()
    path = images.folder / "shard-00001.safetensors"
    content = path.read_bytes()
    before = open_files()
    if damage == "integers":
        safetensors.torch.save_file(
            {"images": torch.ones(4, *SHAPE).int(), "soft_labels": torch.ones(4, CLASSES)}, path
        )
    else:
        path.write_bytes(
            {"truncated": content[:-40], "empty": b"", "no header": b"\xff" * 64}[damage]
        )
    assert len(images.take(torch.tensor([0, 9])).images) == 2  # other shards
    with pytest.raises(ValueError, match=r"shard-00001\.safetensors .*make it again"):
        images.take(torch.tensor([0, 7]))
    assert open_files() == before


def test_reading_leaves_nothing_open_or_mapped(make):
    images = make().check()
    before = open_files()
    for batch in images.batches(3):
        assert len(batch.images)
        assert open_files() == before
    maps = Path("/proc/self/maps").read_text()
    assert str(images.folder) not in maps


def test_a_set_of_an_earlier_version_is_refused(make):
    """Its manifest has neither format nor sizes."""
    images = make()
    manifest = {name: value for name, value in images.manifest.items() if name != "format"}
    (images.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"manifest\.json is in the format of an earlier version"):
        SyntheticSet(images.folder)
