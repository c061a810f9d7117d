"""Calibration centres: one image per class, made first, whose statistics the others match.

They are of TexQ (NeurIPS 2023) and SynQ. The centres are optimized for their class and for the BN
statistics, above all of the deeper layers. The other images then match, in those layers, the
statistics of all centres together beside the running ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dynadfq.losses.bn_statistics import (
    Statistics,
    batch_statistics,
    first_deep_layer,
    pooled_statistics,
    statistics_distances,
    weighted_bn_statistics,
)
from dynadfq.losses.objective import Objective, SynthesisStep, Term, image_class_term
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.pixels import ImageRecipe, PixelSource
from dynadfq.teacher.teacher import Teacher

# Weights in the centres' objective (TexQ and SynQ, released code).
CLASS_WEIGHT = 5.0
SHALLOW_WEIGHT = 0.2
DEEP_WEIGHT = 1.1
CENTRES_AT_ONCE = 256


def centre_objective() -> Objective[SynthesisStep]:
    """Return cross-entropy plus BN statistics in which deeper layers weigh more."""
    bn_statistics = partial(weighted_bn_statistics, shallow=SHALLOW_WEIGHT, deep=DEEP_WEIGHT)
    return Objective(
        [
            Term("bn_statistics", 1.0, lambda step: bn_statistics(step.recording)),
            image_class_term(CLASS_WEIGHT),
        ]
    )


@dataclass
class Centres:
    """Settings of the centres, and their common statistics once they are made.

    effort: iterations per centre, relative to an image's.
    rate: their constant learning rate.
    statistics: mean and variance in each layer, once the centres are made.
    """

    effort: float
    rate: float
    statistics: Statistics = ()

    def distance(self, step: SynthesisStep) -> Tensor:
        """Return the batch's distance to the centres, mean over layers; shallow ones count 0."""
        layers = len(self.statistics)
        first = first_deep_layer(layers)
        statistics = batch_statistics(step.recording)[first:]
        return statistics_distances(statistics, self.statistics[first:]).sum() / layers


@dataclass(frozen=True, kw_only=True)
class CentredRecipe(ImageRecipe):
    """A recipe whose objective compares images with centres."""

    centres: Centres

    def source(self, teacher: Teacher, optimizer: PixelOptimizerConfig) -> CentredSource:
        """Return a source that makes the centres before the first shard."""
        return CentredSource(teacher, self, optimizer, self.centres)


class CentredSource(PixelSource):
    """Makes the centres before the first shard."""

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
        self.centre_optimizer = PixelOptimizerConfig(
            iterations=iterations, learning_rate=centres.rate, patience=max(1, iterations)
        )
        self.classes = torch.arange(teacher.num_classes).split(CENTRES_AT_ONCE)
        self.preparation_steps = iterations * len(self.classes)

    def prepare(self, seed: int, scratch: Scratch, progress: Progress) -> Mapping[str, bytes]:
        """Make the centres in batches, each from its own seed; finished ones are in ``scratch``."""
        done: list[Statistics] = (scratch.load() or {"centres": []})["centres"]
        progress.skip(len(done) * self.centre_optimizer.iterations)
        for number in range(len(done), len(self.classes)):
            rng = generator(seed, "centres", number)
            done.append(self._centre_statistics(self.classes[number], rng, progress))
            scratch.save({"centres": done})
        sizes = [len(classes) for classes in self.classes]
        device = self.teacher.device
        self.centres.statistics = [
            (mean.to(device), variance.to(device))
            for mean, variance in pooled_statistics(list(zip(sizes, done, strict=True)))
        ]
        return {}

    def _centre_statistics(
        self, classes: Tensor, rng: torch.Generator, progress: Progress
    ) -> Statistics:
        """Statistics of a batch of centres, one of each class."""
        labels = one_hot(classes, self.teacher.num_classes).float()
        recipe = ImageRecipe(lambda count, rng: labels, centre_objective())
        source = PixelSource(self.teacher, recipe, self.centre_optimizer)
        images = source.make(len(classes), rng, progress).images
        with torch.no_grad(), self.teacher.recording() as recording:
            self.teacher(images.to(self.teacher.device))
            return [(mean.cpu(), variance.cpu()) for mean, variance in batch_statistics(recording)]
