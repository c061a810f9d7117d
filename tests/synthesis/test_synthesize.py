import errno
import os
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from damage import DAMAGES
from interrupts import counted_steps, files, killed_after

from dynadfq.losses.objective import Objective, SynthesisStep, Term
from dynadfq.methods.base import MethodContext
from dynadfq.methods.dynadfq import DynaDFQ, Images
from dynadfq.runtime.artifact import DamagedArtifact, record_bytes
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.progress import NonFiniteLoss, Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.gate import gate_message
from dynadfq.synthesis.labels import OneHotLabels
from dynadfq.synthesis.manifest import Manifest
from dynadfq.synthesis.pixels import ImageRecipe
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.similarity import class_similarity

Synthesize = Callable[..., SyntheticSet]


@pytest.fixture
def synthesize(teacher, tmp_path):
    recipe = DynaDFQ().images.recipe(MethodContext(teacher, class_similarity(teacher), 0))

    def run(name="set", seed=0, scratch=None, objective=recipe.objective, iterations=3, images=10):
        source = replace(recipe, objective=objective).source(
            teacher, PixelOptimizerConfig(iterations=iterations)
        )
        return synthesize_set(source, images, 4, seed, tmp_path / name, Scratch(scratch))

    return run


def test_the_seed_decides(synthesize):
    first = synthesize("first")
    assert files(first.folder) == files(synthesize("again").folder)
    other = synthesize("other", seed=1)
    everything = torch.arange(10)
    assert not torch.isclose(first.take(everything).images, other.take(everything).images).any()
    assert first.manifest["shards"][0]["seed"] != other.manifest["shards"][0]["seed"]


def test_shards_hold_images_and_labels(synthesize):
    images = synthesize()
    assert len(images.check()) == 10
    assert sorted(files(images.folder)) == [
        "manifest.json",
        *(f"shard-0000{n}.safetensors" for n in range(3)),
    ]
    batches = list(images.batches(4))
    assert [len(batch.images) for batch in batches] == [4, 4, 2]
    everything = images.take(torch.arange(10))
    assert everything.images.shape == (10, 3, 8, 8) and everything.images.dtype == torch.float32
    assert torch.equal(torch.cat([batch.images for batch in batches]), everything.images)
    torch.testing.assert_close(everything.soft_labels.sum(dim=1), torch.ones(10))
    backwards = images.take(torch.tensor([9, 4, 0]))
    assert torch.equal(backwards.images, everything.images[[9, 4, 0]])
    assert torch.equal(backwards.soft_labels, everything.soft_labels[[9, 4, 0]])
    assert sum(len(batch.images) for batch in images.batches(4, limit=7)) == 7
    assert [shard["num_images"] for shard in images.manifest["shards"]] == [4, 4, 2]
    assert set(images.manifest["shards"][0]["losses"]) == {"total", "bn_statistics", "class"}


def test_a_shard_does_not_depend_on_the_others(synthesize):
    more = synthesize("more", images=12)
    fewer = synthesize("fewer", images=8)
    everything = more.take(torch.arange(12)).images
    assert len({image.numpy().tobytes() for image in everything}) == 12
    assert not torch.isclose(everything[:4], everything[4:8]).any()
    for name in ("shard-00000.safetensors", "shard-00001.safetensors"):
        assert files(more.folder)[name] == files(fewer.folder)[name]


@pytest.mark.parametrize("scratch", [False, True])
@pytest.mark.parametrize("after", [0, 4, 8])
def test_an_interrupted_run_ends_with_the_same_bytes(
    synthesize, tmp_path, monkeypatch, scratch, after
):
    expected = files(synthesize("whole").folder)
    waiting = tmp_path / "scratch" if scratch else None
    with killed_after(monkeypatch, after):
        synthesize("parts", scratch=waiting)
    assert not (tmp_path / "parts" / "manifest.json").exists()
    done = len(list((waiting or tmp_path / "parts").glob("shard-*.safetensors"))) if after else 0
    assert done == after // 3
    with counted_steps(monkeypatch) as steps:
        assert files(synthesize("parts", scratch=waiting).folder) == expected
    assert len(steps) == 3 * (3 - done)
    assert waiting is None or not waiting.exists()


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_an_unfinished_shard_that_was_damaged_is_made_again(
    synthesize, tmp_path, monkeypatch, capsys, damage, suffix
):
    expected = files(synthesize("whole").folder)
    waiting = tmp_path / "scratch"
    with killed_after(monkeypatch, 7):
        synthesize("parts", scratch=waiting)
    shard = (waiting / "shard-00001.safetensors").with_suffix(suffix)
    DAMAGES[damage](shard)
    capsys.readouterr()
    with counted_steps(monkeypatch) as steps:
        assert files(synthesize("parts", scratch=waiting).folder) == expected
    assert len(steps) == 3 * 2
    said = f"{shard} is damaged: it was renamed to {shard.name}.damaged, and its part of the work"
    assert capsys.readouterr().err.count(said) == 1
    assert not waiting.exists()


def test_a_full_disk_keeps_finished_shards(synthesize, tmp_path, monkeypatch):
    expected = files(synthesize("whole").folder)
    waiting = tmp_path / "scratch"
    calls = iter(range(100))
    original = os.fsync

    def fsync(number):
        if next(calls) == 2:  # a shard and its note, then the second shard
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(number)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left") as error:
        patch.setattr(os, "fsync", fsync)
        synthesize("parts", scratch=waiting)
    assert error.value.filename == str(waiting / "shard-00001.safetensors")
    assert sorted(files(waiting)) == ["shard-00000.json", "shard-00000.safetensors"]
    with counted_steps(monkeypatch) as steps:
        assert files(synthesize("parts", scratch=waiting).folder) == expected
    assert len(steps) == 3 * 2


def test_equal_works_at_the_same_time_all_get_the_whole_set(synthesize, tmp_path):
    expected = files(synthesize("whole").folder)
    places = ("one", "one", "two")  # also into the same folder
    threads = [
        threading.Thread(target=synthesize, args=(name,), kwargs={"scratch": tmp_path / "scratch"})
        for name in places
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [files(tmp_path / name) for name in places] == [expected] * 3
    assert not list(tmp_path.glob("scratch*"))


@pytest.mark.parametrize("damage", ["altered", "truncated", "missing"])
def test_a_damaged_shard_is_named(synthesize, damage):
    images = synthesize()
    path = images.folder / "shard-00001.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        content[-1] ^= 1
        path.write_bytes(content if damage == "altered" else content[:-10])
    words = "is missing or not a file" if damage == "missing" else "has been altered or truncated"
    with pytest.raises(DamagedArtifact, match=rf"shard-00001\.safetensors {words}; .*dvc checkout"):
        SyntheticSet(images.folder).check()


def test_a_set_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest\.json does not exist; make it first"):
        SyntheticSet(tmp_path)


@pytest.mark.parametrize("step", [2, 3])  # 3 is the last look, after the steps
def test_nan_stops_with_step_and_term_and_keeps_finished_shards(synthesize, tmp_path, step):
    calls = iter(range(10_000))

    def poison(seen):
        return seen.images.square().sum() * (torch.nan if next(calls) == 4 + step else 1.0)

    waiting = tmp_path / "scratch"
    with pytest.raises(NonFiniteLoss, match=f"step {step}: poison = nan; lower the learning rate"):
        synthesize(scratch=waiting, objective=Objective([Term("poison", 1.0, poison)]))
    assert sorted(files(waiting)) == ["shard-00000.json", "shard-00000.safetensors"]
    assert not (tmp_path / "set").exists()


def test_the_loss_goes_down(synthesize):
    losses = [synthesize(str(n), iterations=n).manifest["shards"][0]["losses"] for n in (0, 30)]
    assert losses[1]["total"] < 0.5 * losses[0]["total"]
    assert losses[1]["total"] == pytest.approx(
        losses[1]["bn_statistics"] + 0.1 * losses[1]["class"]
    )


def test_manifest_losses_are_those_of_the_images_written(synthesize, teacher):
    images = synthesize()
    batch = images.take(torch.arange(4))
    entry = images.manifest["shards"][0]
    objective = Images().recipe(MethodContext(teacher, class_similarity(teacher), 0)).objective
    with teacher.recording() as recording:
        logits = teacher(batch.images)
        total, _ = objective(SynthesisStep(*batch, logits, recording))
    assert entry["losses"]["total"] == pytest.approx(total.item(), rel=1e-5)
    one_hot = batch.soft_labels.amax(dim=1) == 1
    right = (logits.argmax(1) == batch.soft_labels.argmax(1)) & one_hot
    assert (entry["one_hot_images"], entry["one_hot_recognized"]) == (one_hot.sum(), right.sum())


def test_the_rate_falls_on_a_plateau(teacher):
    flat = Objective([Term("flat", 1.0, lambda step: step.images.sum() * 0.0 + 1.0)])
    seen = []
    original = torch.optim.Adam.step

    def step(self, *args):
        seen.append(self.param_groups[0]["lr"])
        return original(self, *args)

    optimizer = PixelOptimizerConfig(
        iterations=8, learning_rate=0.5, decay=0.1, patience=2, min_learning_rate=0.01
    )
    with pytest.MonkeyPatch.context() as patch, Progress("test", 8) as progress:
        patch.setattr(torch.optim.Adam, "step", step)
        recipe = ImageRecipe(OneHotLabels(6), flat)
        recipe.source(teacher, optimizer).make(2, torch.Generator().manual_seed(0), progress)
    torch.testing.assert_close(torch.tensor(seen), torch.tensor([0.5] * 4 + [0.05] * 3 + [0.01]))


def manifest_only(folder, *one_hot):
    """A set of shards with these counts of images made for one class, and of recognized ones."""
    shards = [
        {
            "bytes": 1,
            "file": f"shard-{number}",
            "losses": {},
            "num_images": 100,
            "one_hot_images": made,
            "one_hot_recognized": recognized,
            "seed": number,
            "sha256": "0" * 64,
        }
        for number, (made, recognized) in enumerate(one_hot)
    ]
    content = {"batch_size": 100, "num_images": 100 * len(shards), "seed": 0, "files": {}}
    content |= {"shards": shards, "storage": "float32"}
    (folder / "manifest.json").write_bytes(record_bytes(content, Manifest))
    return SyntheticSet(folder)


@pytest.mark.parametrize(("recognized", "passes"), [(90, True), (89, False)])
def test_the_gate_speaks_either_way(tmp_path, recognized, passes):
    images = manifest_only(tmp_path, (40, 40), (60, recognized - 40))
    assert images.one_hot_recognized == recognized
    message = gate_message(images)
    assert f"{recognized}.0 %" in message
    assert "90 %" in message
    assert message.startswith("WARNING") != passes
    assert ("images.class_weight" in message and "batch_var" in message) != passes


def test_the_gate_needs_images_of_one_class(tmp_path):
    synthetic = manifest_only(tmp_path, (0, 0))
    assert synthetic.one_hot_recognized is None
    assert not gate_message(synthetic).startswith("WARNING")


def test_a_smaller_set_leaves_nothing_of_the_former_one(synthesize, tmp_path):
    synthesize(images=10)
    (tmp_path / "set" / "mine.txt").write_text("kept")
    expected = files(synthesize("alone", images=4).folder)
    assert files(synthesize(images=4).folder) == {**expected, "mine.txt": b"kept"}


def test_a_loss_without_any_weight_is_refused(synthesize):
    zero = Objective([Term("one", 0.0, lambda step: step.images.sum())])
    with pytest.raises(
        InvalidArgument, match=r"method: all terms of its images' loss \(one\) have"
    ):
        synthesize(objective=zero)
    assert len(synthesize(objective=zero, iterations=0)) == 10
