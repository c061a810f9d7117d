"""What the figures show of a set of images: the teacher's predictions, the statistics of its
BatchNorm inputs, and some of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dynadfq.data.config import DataConfig
from dynadfq.evaluation.teacher_statistics import float_logits
from dynadfq.losses.objective import prediction_entropy
from dynadfq.ops.batch_norm import BatchNorm, running_statistics
from dynadfq.report.figures.tiles import to_pixels
from dynadfq.report.images import reduced
from dynadfq.runtime import device
from dynadfq.runtime.resume import atomic_write
from dynadfq.synthesis.dataset import Batch, SyntheticSet
from dynadfq.teacher.loading import load_teacher
from dynadfq.teacher.teacher import Teacher
from stages.artifacts import write_json, write_table
from stages.labelled import test_set

BATCH = 64  # images
CLASSES = 100  # the first ones, of which images are kept


class Images(NamedTuple):
    """A set of images.

    size: how many.
    take: (B,) indices to images and labels.
    class_names: names of the teacher's outputs.
    test: whether they are labelled test images.
    """

    size: int
    take: Callable[[Tensor], Batch]
    class_names: list[str]
    test: bool = False

    def batches(self) -> Iterator[Batch]:
        """Yield all images in order."""
        return (self.take(indices) for indices in torch.arange(self.size).split(BATCH))


def measure_images(
    settings: Mapping[str, Any], teacher_folder: Path, source: Path, folder: Path
) -> None:
    """Write what the figures show of a set of images.

    Always `images.csv` (see ``prediction_table``), `classes.json` (names) and `kept.safetensors`
    (see ``kept_images``); with the setting `layers` also `layers.csv` and `channels.csv`.
    """
    teacher = load_teacher(teacher_folder, trust=(settings["architecture"],))
    teacher = teacher.to(device.resolve(settings["device"]))
    images = images_of(settings, teacher, source)
    table = prediction_table(teacher, images.batches())
    write_table(folder / "images.csv", table)
    write_json(folder / "classes.json", images.class_names)
    kept = kept_images(teacher, images, kept_indices(table, images.test))
    atomic_write(folder / "kept.safetensors", safetensors.torch.save(kept))
    if settings["layers"]:
        write_table(folder / "layers.csv", layer_statistics(teacher, images.batches()))
        write_table(folder / "channels.csv", channel_statistics(teacher, images.batches()))


def images_of(settings: Mapping[str, Any], teacher: Teacher, source: Path) -> Images:
    """Return a stored set, what a student's generator makes, or the test images."""
    names = list(teacher.class_names)
    if settings["of"] == "images":
        stored = SyntheticSet(source).check(teacher.input_shape, teacher.num_classes)
        return Images(len(stored), stored.take, names)
    if settings["of"] == "generator":
        made = Batch(**safetensors.torch.load_file(source))
        return Images(len(made.images), lambda i: Batch(made.images[i], made.soft_labels[i]), names)
    test = test_set(DataConfig(**settings["data"]), teacher, settings["test_images"])
    if test is None:
        raise ValueError("data.name: null; the figures of test images need labelled images")
    if test.classes is not None and test.classes.names:
        names = list(test.classes.names)

    def take(indices: Tensor) -> Batch:
        labels = one_hot(test.labels[indices], teacher.num_classes).float()
        return Batch(test.images(indices), labels)

    return Images(len(test), take, names, test=True)


@torch.no_grad()
def prediction_table(teacher: Teacher, batches: Iterable[Batch]) -> pd.DataFrame:
    """Return one row per image.

    Returns:
        index; label, the class of the largest share; soft, 1 where the label has more than one
        class; teacher_prediction; entropy_nats, of the prediction (DynaDFQ, Eq. 4).
    """
    rows = []
    for images, soft_labels in batches:
        logits = float_logits(teacher, images).double()
        columns = {
            "label": soft_labels.argmax(dim=1),
            "soft": (soft_labels.amax(dim=1) < 1).long(),
            "teacher_prediction": logits.argmax(dim=1),
            "entropy_nats": prediction_entropy(logits),
        }
        rows.append(pd.DataFrame({name: column.numpy() for name, column in columns.items()}))
    return pd.concat(rows, ignore_index=True).rename_axis("index").reset_index()


def kept_indices(table: pd.DataFrame, test: bool) -> list[int]:
    """Return the images that are kept, in ascending order.

    Args:
        table: what ``prediction_table`` returned.
        test: keep of each class the image of lowest and of highest entropy; otherwise the first one
            whose label is this class alone, and the first one whose label is shared.

    Returns:
        Indices of images of the first ``CLASSES`` classes.
    """
    shown = table[table["label"] < CLASSES]
    if test:
        by_class = shown.groupby("label")["entropy_nats"]
        found = pd.concat([by_class.idxmin(), by_class.idxmax()])
    else:
        found = shown.groupby(["label", "soft"])["index"].first()
    return sorted({int(index) for index in found})


@torch.no_grad()
def kept_images(teacher: Teacher, images: Images, indices: Sequence[int]) -> dict[str, Tensor]:
    """Return N images as they are shown.

    Returns:
        index: (N,) int64.
        pixels: (N, H, W, 3) uint8, reduced to what a page shows.
        soft_labels, probabilities: (N, classes) float32; the latter are the teacher's.
    """
    index = torch.tensor(indices)
    batch = images.take(index)
    pixels = [
        reduced(to_pixels(image.numpy(), teacher.mean, teacher.std)) for image in batch.images
    ]
    logits = torch.cat([float_logits(teacher, some) for some in batch.images.split(BATCH)])
    return {
        "index": index,
        "pixels": torch.from_numpy(np.stack(pixels)),
        "soft_labels": batch.soft_labels,
        "probabilities": logits.softmax(dim=1),
    }


@torch.no_grad()
def layer_statistics(teacher: Teacher, batches: Iterable[Batch]) -> pd.DataFrame:
    """Return one row per image and BatchNorm layer.

    Returns:
        layer, image; offset, the mean over channels of the image's mean less the running one, in
        running deviations, 0 for a match; spread, the mean over channels of the image's standard
        deviation over the running one, 1 for a match.
    """
    rows = []
    for index, batch_norms in _recorded(teacher, batches):
        for number, (layer, x) in enumerate(batch_norms):
            mean, variance = running_statistics(layer)
            deviation = (variance + layer.eps).sqrt()
            pixels = x.flatten(2)
            columns = {
                "layer": number,
                "image": index,
                "offset": ((pixels.mean(dim=2) - mean) / deviation).mean(dim=1).cpu().numpy(),
                "spread": (pixels.std(dim=2, correction=0) / deviation).mean(dim=1).cpu().numpy(),
            }
            rows.append(pd.DataFrame(columns))
    return pd.concat(rows, ignore_index=True)


@torch.no_grad()
def channel_statistics(teacher: Teacher, batches: Iterable[Batch]) -> pd.DataFrame:
    """Return one row per image and channel: one of the middle BatchNorm layer, one of the last
    (DSG, supplement, Fig. 1).

    Returns:
        layer, channel (that of the layer's median running variance), image; mean and deviation,
        over the image's pixels; bn_mean and bn_deviation, the layer's running statistics.
    """
    rows = []
    for index, batch_norms in _recorded(teacher, batches):
        last = len(batch_norms) - 1
        for number in sorted({last // 2, last}):
            layer, x = batch_norms[number]
            mean, variance = running_statistics(layer)
            channel = int(variance.argsort(stable=True)[(len(variance) - 1) // 2])
            pixels = x[:, channel].flatten(1)
            columns = {
                "layer": number,
                "channel": channel,
                "image": index,
                "mean": pixels.mean(dim=1).cpu().numpy(),
                "deviation": pixels.std(dim=1, correction=0).cpu().numpy(),
                "bn_mean": float(mean[channel]),
                "bn_deviation": float(variance[channel].sqrt()),
            }
            rows.append(pd.DataFrame(columns))
    return pd.concat(rows, ignore_index=True)


def _recorded(
    teacher: Teacher, batches: Iterable[Batch]
) -> Iterator[tuple[range, list[tuple[BatchNorm, Tensor]]]]:
    """Yield each batch's indices and its BatchNorm layers with their inputs, in execution order."""
    first = 0
    with teacher.recording() as recording:
        for images, _ in batches:
            recording.clear()
            teacher(images.to(teacher.device))
            yield range(first, first + len(images)), recording.batch_norms
            first += len(images)
