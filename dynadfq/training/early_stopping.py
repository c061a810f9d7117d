"""Early stopping: training ends when a student no longer agrees more often with its teacher.

Agreement is measured on synthetic images that are held back: the student neither learns from them
nor is calibrated on them. Of the epochs whose bit-FLOPs are within the target, or of all where none
is, the last one with the highest agreement is kept. Labels have no part in this (Prechelt, "Early
Stopping – But When?", 1998, with agreement in place of an error on labelled validation images).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dynadfq.ops.precision import compute_precision
from dynadfq.quant.bits import BitAllocation
from dynadfq.runtime import distributed
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.seeding import generator
from dynadfq.synthesis.dataset import Batch, SyntheticSet
from dynadfq.training.any_width import draw_widths
from dynadfq.training.parts import TrainingContext

AGREEMENT = "held_back_agreement"  # columns of the history
COST = "held_back_bit_flops_percent"
KEPT = "kept"
BATCH = 128  # images
TOLERANCE = 0.01  # of the target: a mean cost that exceeds it by less is within it


class Subset(SyntheticSet):
    """Some images of a set; folder and manifest, and what reads them, are those of the whole set.

    Args:
        whole: the set.
        indices: (n,) of its images.
    """

    def __init__(self, whole: SyntheticSet, indices: Tensor) -> None:
        super().__init__(whole.folder, keep_alive=whole)
        self.whole = whole
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, indices: Tensor) -> Batch:
        """Return the images at (B,) indices into this subset, and their labels."""
        return self.whole.take(self.indices[indices])

    def labels(self, indices: Tensor) -> Tensor:
        """Return the (B, classes) labels of the images at (B,) indices into this subset."""
        return self.whole.labels(self.indices[indices])


def choose(classes: Sequence[int], count: int, rng: torch.Generator) -> list[int]:
    """Return the ascending indices of images from as many classes as possible, equally often.

    Of classes that give as many images, those with most images come first.

    >>> choose([7, 7, 7, 2, 2, 5], 4, torch.Generator().manual_seed(0))
    [0, 2, 3, 5]

    Args:
        classes: (N,) class of each image.
        count: number of images to choose.
        rng: decides among the images of a class, and among classes of as many images.
    """
    sizes = Counter(classes)
    seen: Counter[int] = Counter()
    ranked = []
    for index in torch.randperm(len(classes), generator=rng).tolist():
        which = classes[index]
        ranked.append((seen[which], -sizes[which], index))
        seen[which] += 1
    ranked.sort(key=lambda rank: rank[:2])
    return sorted(index for _, _, index in ranked[:count])


def hold_back(
    images: SyntheticSet, count: int, seed: int
) -> tuple[SyntheticSet, SyntheticSet | None]:
    """Divide a set into images to learn from and images to measure agreement on.

    The class of an image is the most probable one of its soft label.

    Args:
        images: the set.
        count: number of images to hold back; 0 holds back none.
        seed: decides which ones.

    Returns:
        Both parts; the whole set and None where none are held back.

    Raises:
        InvalidArgument: none would be left to learn from.
    """
    if not count:
        return images, None
    if count >= len(images):
        raise InvalidArgument(
            "early_stopping.images",
            f"{count} of {len(images)} images leave none to learn from; hold back fewer, or make "
            "more images",
        )
    parts = torch.arange(len(images)).split(BATCH)
    classes = torch.cat([images.labels(indices).argmax(dim=1) for indices in parts])
    chosen = torch.tensor(choose(classes.tolist(), count, generator(seed, "held_back")))
    others = torch.ones(len(images), dtype=torch.bool)
    others[chosen] = False
    return Subset(images, others.nonzero().flatten()), Subset(images, chosen)


def best_epoch(history: Sequence[Mapping[str, float]], most: float) -> int:
    """Return the index of the epoch to keep: the last one of highest agreement.

    Few images leave many epochs equal, of which the last has learned most. An epoch whose mean
    bit-FLOPs are within the limit is preferred to all others, since wider activations agree more
    often.

    Args:
        history: agreement and cost of each epoch, ``AGREEMENT`` and ``COST``.
        most: limit of the mean bit-FLOPs, in percent of the float network's.
    """

    def rank(epoch: int) -> tuple[bool, float]:
        return history[epoch][COST] <= most, history[epoch][AGREEMENT]

    return max(reversed(range(len(history))), key=rank)


def record(history: pd.DataFrame, images: int) -> dict[str, Any] | None:
    """Return which epoch was kept, for the student's provenance; None where nothing was trained.

    Args:
        history: one row per epoch.
        images: number of images held back.
    """
    if not len(history):
        return None
    kept = history[history[KEPT]].iloc[0]
    return {
        "held_back_images": images,
        "epochs": len(history),
        "kept_epoch": int(kept["epoch"]),
        "agreement": float(kept[AGREEMENT]),
    }


class EarlyStopping:
    """Measures a student after each epoch, and has the state of the best one.

    A student whose widths are drawn (``any_width``) is measured at widths that are drawn once.

    Args:
        context: student, teacher and schedule.
        held_back: images that it does not learn from.
        seed: of drawn widths.
    """

    def __init__(self, context: TrainingContext, held_back: SyntheticSet, seed: int) -> None:
        self.student = context.student
        self.teacher = context.teacher
        self.images = held_back
        self.patience = context.schedule.early_stopping.patience
        self.most = (1 + TOLERANCE) * self.student.cost_range()["target"]
        self.kept: dict[str, Tensor] = {}  # the student's state after its best epoch
        self.batches = torch.arange(len(held_back)).split(BATCH)
        self._drawn: Tensor | None = None
        if context.any_width:
            self._drawn = draw_widths(
                len(held_back),
                len(self.student.sites),
                self.student.scheme.activation_bits,
                generator(seed, "held_back_widths"),
            )
        self._predicted: dict[int, Tensor] = {}  # the teacher's classes, by batch

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Return agreement and mean bit-FLOPs, both in percent; the student is left in eval mode.

        Ranks take turns at the batches, and all return the same.
        """
        self.student.eval()
        with compute_precision("float32", self.teacher.device):
            found = distributed.in_turns(self._measure, range(len(self.batches)))
        agreed, cost = (sum(values) / len(self.images) for values in zip(*found, strict=True))
        return {AGREEMENT: 100.0 * agreed, COST: cost}

    def _measure(self, number: int) -> tuple[int, float]:
        """Return the number of images of a batch that agree, and the sum of their bit-FLOPs."""
        indices = self.batches[number]
        images = self.images.take(indices).images.to(self.teacher.device)
        images = images.contiguous(memory_format=self.teacher.memory_format)
        if number not in self._predicted:
            self._predicted[number] = self.teacher(images).argmax(dim=1)
        drawn = None if self._drawn is None else BitAllocation(self._drawn[indices].to(images))
        logits, bits = self.student.run(images, drawn)
        agreed = (logits.argmax(dim=1) == self._predicted[number]).sum()
        return int(agreed), float(self.student.bit_flops_percent(bits).sum())

    def keep(self, history: Sequence[Mapping[str, float]]) -> None:
        """Copy the student's state if its last epoch is the best one."""
        if best_epoch(history, self.most) == len(history) - 1:
            state = self.student.network.state_dict()
            self.kept = {name: tensor.clone() for name, tensor in state.items()}

    def is_over(self, history: Sequence[Mapping[str, float]]) -> bool:
        """Return whether ``patience`` epochs have passed since the best one."""
        since = len(history) - 1 - best_epoch(history, self.most) if history else 0
        return since >= self.patience

    def restore(self, history: Sequence[dict[str, float]]) -> None:
        """Give the student the state of its best epoch, and mark this epoch in the history."""
        self.student.network.load_state_dict(self.kept)
        best = best_epoch(history, self.most)
        for number, row in enumerate(history):
            row[KEPT] = number == best

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the best epoch."""
        return {"kept": self.kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict``."""
        self.kept = state["kept"]
