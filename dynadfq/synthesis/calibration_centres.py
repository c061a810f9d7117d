"""Calibration centres: an image a class, made first, whose statistics the others follow (TexQ,
NeurIPS 2023; SynQ).

The centres are optimized for their class and for the BN statistics, above all of the deeper layers.
Images then match, in those layers, the statistics of all centres together beside the running ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dynadfq.losses.bn_statistics import batch_statistics
from dynadfq.losses.objective import Objective, SynthesisStep, Term, image_class_term
from dynadfq.ops.batch_norm import running_statistics
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.pixels import ImageRecipe, PixelSource
from dynadfq.teacher.teacher import Teacher

CLASS_WEIGHT = 5.0  # of the cross entropy in the centres' objective (TexQ and SynQ, released code)
SHALLOW_WEIGHT, DEEP_WEIGHT = 0.2, 1.1  # of a layer's statistics there
CENTRES_AT_ONCE = 256

Statistics = Sequence[tuple[Tensor, Tensor]]  # (C,) mean and variance, a layer each


def first_deep_layer(layers: int) -> int:
    """Index of the BatchNorm layer at which the deeper part begins (SynQ, released code).

    >>> [first_deep_layer(layers) for layers in (1, 4, 20)]
    [0, 1, 9]
    """
    return max((layers + 2) // 2 - 2, 0)


def centre_objective() -> Objective[SynthesisStep]:
    """Cross entropy and the BN statistics, deeper layers weighing more."""

    def bn_statistics(step: SynthesisStep) -> Tensor:
        running = [running_statistics(layer) for layer, _ in step.recording.batch_norms]
        distances = statistics_distances(batch_statistics(step.recording), running)
        weights = torch.full_like(distances, DEEP_WEIGHT)
        weights[: first_deep_layer(len(weights))] = SHALLOW_WEIGHT
        return (weights * distances).mean()

    return Objective([Term("bn_statistics", 1.0, bn_statistics), image_class_term(CLASS_WEIGHT)])


@dataclass
class Centres:
    """Centres to be made, and then the statistics that they have together.

    effort: iterations for a centre, relative to an image's.
    rate: their learning rate, which stays as it is.
    """

    effort: float
    rate: float
    statistics: Statistics = ()

    def distance(self, step: SynthesisStep) -> Tensor:
        """Mean over layers of the batch's distance to the centres; layers before the deeper part
        count as 0.
        """
        layers = len(self.statistics)
        first = first_deep_layer(layers)
        mine, targets = batch_statistics(step.recording)[first:], self.statistics[first:]
        return statistics_distances(mine, targets).sum() / layers


@dataclass(frozen=True, kw_only=True)
class CentredRecipe(ImageRecipe):
    """Images whose objective looks at centres."""

    centres: Centres

    def source(self, teacher: Teacher, optimizer: PixelOptimizerConfig) -> CentredSource:
        """The recipe, applied to a teacher; the centres come before the first shard."""
        return CentredSource(teacher, self, optimizer, self.centres)


class CentredSource(PixelSource):
    """Makes the centres, then shards."""

    def __init__(
        self,
        teacher: Teacher,
        recipe: ImageRecipe,
        optimizer: PixelOptimizerConfig,
        centres: Centres,
    ) -> None:
        super().__init__(teacher, recipe, optimizer)
        iterations = round(centres.effort * optimizer.iterations)
        self.centres = centres
        self.first = PixelOptimizerConfig(
            iterations=iterations, learning_rate=centres.rate, patience=max(1, iterations)
        )
        self.classes = torch.arange(teacher.num_classes).split(CENTRES_AT_ONCE)
        self.preparation_steps = iterations * len(self.classes)

    def prepare(self, seed: int, scratch: Scratch, progress: Progress) -> Mapping[str, bytes]:
        """Make the centres in batches, each from its own seed; finished ones are taken from
        ``scratch``.
        """
        done: list[Statistics] = (scratch.load() or {"centres": []})["centres"]
        progress.skip(len(done) * self.first.iterations)
        for number in range(len(done), len(self.classes)):
            done.append(
                self._make(self.classes[number], generator(seed, "centres", number), progress)
            )
            scratch.save({"centres": done})
        together = pooled_statistics(
            [(len(classes), part) for classes, part in zip(self.classes, done, strict=True)]
        )
        device = self.teacher.device
        self.centres.statistics = [
            (mean.to(device), variance.to(device)) for mean, variance in together
        ]
        return {}

    def _make(self, classes: Tensor, rng: torch.Generator, progress: Progress) -> Statistics:
        """Statistics of a batch of centres, one of each class."""
        labels = one_hot(classes, self.teacher.num_classes).float()
        recipe = ImageRecipe(lambda count, rng: labels, centre_objective())
        images = (
            PixelSource(self.teacher, recipe, self.first).make(len(classes), rng, progress).images
        )
        with torch.no_grad(), self.teacher.recording() as recording:
            self.teacher(images.to(self.teacher.device))
            return [(mean.cpu(), variance.cpu()) for mean, variance in batch_statistics(recording)]
