"""What the figures show of images, against values worked out by hand and the library's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from finetuning import context
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks import image_statistics
from benchmarks.generated import COUNT, keeping, write_images
from benchmarks.image_statistics import (
    Images,
    channel_statistics,
    images_of,
    kept_images,
    kept_indices,
    layer_statistics,
    measure_images,
    prediction_table,
)
from benchmarks.report.figures.channels import histogram_edges
from dynadfq.evaluation.teacher_statistics import TeacherObserver
from dynadfq.methods import adadfq, zeroq
from dynadfq.methods.base import MethodContext
from dynadfq.report.figures.tiles import to_pixels
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.dataset import Batch
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.teacher import Teacher

CLASSES = 6


class Normalized(nn.Module):
    """BatchNorm of the pixels themselves, so that activations are known, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.norm(images).mean(dim=(2, 3)))
        return logits


@pytest.fixture
def known() -> Teacher:
    """Its second channel has the median running variance."""
    net = Normalized().eval()
    net.norm.running_mean = torch.tensor([0.0, 0.5, 9.0])
    net.norm.running_var = torch.tensor([100.0, 4.0, 1.0])
    net.norm.eps = 0.0
    return Teacher(net, (3, 2, 2), 2, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture
def labelled(images: Tensor) -> Batch:
    """Labels of one class and of two in turn."""
    labels = torch.eye(CLASSES)[torch.arange(len(images)) % CLASSES]
    labels[::2] = 0.75 * labels[::2] + 0.25 * labels[::2].roll(1, dims=1)
    return Batch(images, labels)


def in_batches(batch: Batch, size: int) -> list[Batch]:
    return [Batch(*parts) for parts in zip(*(t.split(size) for t in batch), strict=True)]


def pixels(*channel: float) -> Tensor:
    """An image whose second channel has these four pixels; the others are constant."""
    image = torch.zeros(3, 2, 2)
    image[1] = torch.tensor(channel).view(2, 2)
    return image


def test_a_channels_statistics_are_those_of_its_pixels(known: Teacher):
    images = torch.stack([pixels(0, 2, 0, 2), pixels(1, 1, 1, 1), pixels(0, 0, 0, 4)])
    table = channel_statistics(known, [Batch(images, torch.eye(2)[[0, 0, 1]])])
    assert table["mean"].tolist() == [1.0, 1.0, 1.0]
    assert table["deviation"].tolist() == pytest.approx([1.0, 0.0, 3**0.5])
    assert table[["layer", "channel"]].drop_duplicates().to_numpy().tolist() == [[0, 1]]
    assert set(table["bn_mean"]) == {0.5} and set(table["bn_deviation"]) == {2.0}


def test_a_layers_offset_and_spread_are_means_over_channels(known: Teacher):
    [row] = layer_statistics(
        known, [Batch(pixels(0, 2, 0, 2)[None], torch.eye(2)[:1])]
    ).itertuples()
    assert row.offset == pytest.approx((0 + (1 - 0.5) / 2 - 9) / 3)
    assert row.spread == pytest.approx((0 + 1 / 2 + 0) / 3)


def test_channels_are_of_the_middle_and_the_last_layer(teacher: Teacher, labelled: Batch):
    table = channel_statistics(teacher, in_batches(labelled, 64))
    assert table.groupby("layer")["image"].count().to_dict() == {1: 256, 3: 256}
    for layer, name in ((1, "bn2"), (3, "bn4")):
        variance = getattr(teacher.module, name).running_var
        mine = table[table["layer"] == layer]
        [channel] = mine["channel"].unique()
        assert (variance < variance[channel]).sum() == (len(variance) - 1) // 2
        assert mine["bn_deviation"].iloc[0] == pytest.approx(float(variance[channel].sqrt()))


def test_entropies_are_the_librarys_own(teacher: Teacher, labelled: Batch):
    table = prediction_table(teacher, [labelled])
    predictions, entropies = TeacherObserver(teacher).observe(labelled.images)
    assert table["teacher_prediction"].tolist() == predictions.tolist()
    assert table["entropy_nats"].tolist() == entropies.tolist()
    assert table["index"].tolist() == list(range(256))
    assert table["soft"].tolist() == [1, 0] * 128
    assert table["label"].tolist() == [index % CLASSES for index in range(256)]


@pytest.mark.parametrize("measure", [prediction_table, layer_statistics, channel_statistics])
def test_an_image_does_not_depend_on_its_batch(
    teacher: Teacher, labelled: Batch, measure: Callable[..., pd.DataFrame]
):
    one, other = (measure(teacher, in_batches(labelled, size)) for size in (64, 100))
    key = [name for name in ("layer", "image") if name in one]
    one, other = (table.sort_values(key or "index", ignore_index=True) for table in (one, other))
    pd.testing.assert_frame_equal(one, other, rtol=1e-5, atol=1e-6)


def test_of_test_images_the_easiest_and_the_hardest_of_each_class_are_kept(monkeypatch):
    table = pd.DataFrame(
        {"label": [0, 0, 0, 1, 1, 2], "soft": 0, "entropy_nats": [0.3, 0.1, 0.2, 0.5, 0.6, 0.0]}
    )
    assert kept_indices(table.assign(index=range(6)), test=True) == [0, 1, 3, 4, 5]
    monkeypatch.setattr(image_statistics, "CLASSES", 1)
    assert kept_indices(table.assign(index=range(6)), test=True) == [0, 1]


def test_of_other_images_the_first_of_each_class_and_kind_of_label_is_kept():
    table = pd.DataFrame({"label": [1, 1, 0, 1, 0], "soft": [1, 0, 0, 1, 0], "entropy_nats": 0.0})
    assert kept_indices(table.assign(index=range(5)), test=False) == [0, 1, 2]


def test_kept_images_are_those_of_their_indices(teacher: Teacher, labelled: Batch):
    images = Images(256, lambda index: Batch(*(t[index] for t in labelled)), ["x"] * CLASSES)
    kept = kept_images(teacher, images, [3, 200])
    for place, index in enumerate((3, 200)):
        shown = to_pixels(labelled.images[index].numpy(), teacher.mean, teacher.std)
        assert torch.equal(kept["pixels"][place], torch.from_numpy(shown))
        assert torch.equal(kept["soft_labels"][place], labelled.soft_labels[index])
    with torch.no_grad():
        expected = teacher(labelled.images[[3, 200]]).softmax(dim=1)
    torch.testing.assert_close(kept["probabilities"], expected)


def test_a_histogram_holds_every_image_and_batch_norms_own_value():
    tables = {
        name: pd.DataFrame({"mean": means, "bn_mean": 5.0})
        for name, means in (("a", [0.0, 1.0]), ("b", [2.0]))
    }
    edges = histogram_edges(tables, "mean")
    assert (edges[0], edges[-1]) == (0.0, 5.0)


def test_a_stored_set_is_measured_and_nothing_else_is_written(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(image_statistics, "load_teacher", lambda folder, trust: teacher)
    recipe = zeroq.Images().recipe(MethodContext(teacher, torch.eye(CLASSES), 0))
    source = recipe.source(teacher, PixelOptimizerConfig(iterations=1))
    synthesize_set(source, 8, 8, 0, tmp_path / "images", Scratch(None))
    settings = {"architecture": teacher.architecture, "device": "cpu", "of": "images"}
    for layers in (False, True):
        folder = tmp_path / f"layers-{layers}"
        measure_images(
            {**settings, "layers": layers}, tmp_path / "teacher", tmp_path / "images", folder
        )
        always = {"images.csv", "classes.json", "kept.safetensors"}
        expected = always | ({"layers.csv", "channels.csv"} if layers else set())
        assert {path.name for path in folder.iterdir()} == expected
        kept = load_file(folder / "kept.safetensors")["index"].tolist()
        assert kept == kept_indices(pd.read_csv(folder / "images.csv"), test=False)


@pytest.fixture
def recipe_and_context(make_student, teacher: Teacher, tmp_path: Path):
    images = adadfq.Images(generator_batch_size=8, latent_features=10)
    source = images.generator(teacher).source(teacher, PixelOptimizerConfig(iterations=2))
    stored = synthesize_set(source, 24, 8, 0, tmp_path / "images", Scratch(None))
    return adadfq.Student().recipe(), context(make_student(4), teacher, stored)


def test_keeping_a_generator_changes_no_batch(recipe_and_context):
    recipe, of = recipe_and_context
    changed, kept = keeping(recipe)
    streams = recipe.batches(of), changed.batches(of)
    assert kept == [streams[1]]
    for one, other in zip(*(list(s.epoch(0, generator(0))) for s in streams), strict=True):
        assert torch.equal(one.images, other.images)


def test_equal_seeds_draw_equal_labels_from_generators_that_differ(
    recipe_and_context, teacher: Teacher, tmp_path: Path
):
    recipe, of = recipe_and_context
    changed, kept = keeping(recipe)
    stream = changed.batches(of)
    made = []
    for _ in range(2):
        write_images(tmp_path / "made", kept[0], seed=3)
        images = images_of({"of": "generator"}, teacher, tmp_path / "made")
        assert images.size == COUNT
        made.append(images.take(torch.arange(COUNT)))
        list(stream.epoch(0, generator(0)))
    assert torch.equal(made[0].soft_labels, made[1].soft_labels)
    assert not torch.equal(made[0].images, made[1].images)


def test_a_recipe_without_a_generator_keeps_nothing(recipe_and_context):
    _, of = recipe_and_context
    changed, kept = keeping(adadfq.Student(online_generator=False).recipe())
    changed.batches(of)
    assert kept == []
