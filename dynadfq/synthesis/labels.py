"""Samplers of soft labels, (count, classes) rows that sum to 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dynadfq.runtime.errors import InvalidArgument
from dynadfq.teacher.similarity import most_similar

LabelSampler = Callable[[int, torch.Generator], Tensor]


def dirichlet(count: int, classes: int, concentration: float, rng: torch.Generator) -> Tensor:
    """Return rows of a symmetric Dirichlet distribution: (count, classes) float32.

    With concentration 1 rows are uniform on the simplex and their mean entropy is H_classes - 1
    nats (H: harmonic number).
    """
    shape = torch.full((count, classes), concentration, dtype=torch.float64)
    gamma = torch._standard_gamma(shape, generator=rng)
    return (gamma / gamma.sum(dim=1, keepdim=True)).float()


@dataclass(frozen=True)
class OneHotLabels:
    """One random class per image."""

    num_classes: int

    def __call__(self, count: int, rng: torch.Generator) -> Tensor:
        """Return (count, classes) one-hot rows."""
        classes = torch.randint(self.num_classes, (count,), generator=rng)
        return one_hot(classes, self.num_classes).float()


@dataclass(frozen=True)
class TargetProbabilityLabels:
    """A random class with the probability that the teacher should give it (IntraQ, 2111.09136).

    In a random ``share`` of the images the probability is uniform in [``lowest``, 1], in the others
    it is 1. The other classes share the rest evenly, so that a row is a distribution and, with
    ``lowest`` above 1/2, its largest entry tells both the class and its probability.
    """

    num_classes: int
    lowest: float
    share: float

    def __call__(self, count: int, rng: torch.Generator) -> Tensor:
        """Return (count, classes) rows."""
        own = torch.randint(self.num_classes, (count, 1), generator=rng)
        lowered, drawn = torch.rand(2, count, 1, generator=rng)
        target = torch.where(
            lowered < self.share, self.lowest + (1 - self.lowest) * drawn, torch.ones(())
        )
        rest = (1 - target) / (self.num_classes - 1)
        return rest.repeat(1, self.num_classes).scatter(1, own, target)


@dataclass(frozen=True)
class SimilarClassLabels:
    """Probabilities shared by classes that resemble each other (DynaDFQ, Eq. 6).

    Of each call's images, at random positions, a share of ``diverse_ratio`` gets z ~
    Dirichlet(concentration) over the ``similar_classes`` most similar classes of a random class,
    that class among them; the others are one-hot.
    """

    similarity: Tensor  # (classes, classes)
    similar_classes: int = 2
    diverse_ratio: float = 0.5
    concentration: float = 1.0

    def __call__(self, count: int, rng: torch.Generator) -> Tensor:
        """Return (count, classes) rows."""
        classes = len(self.similarity)
        if self.similar_classes > classes:
            raise InvalidArgument(
                "similar_classes", f"{self.similar_classes} exceeds the {classes} classes"
            )
        own = torch.randint(classes, (count,), generator=rng)
        labels = one_hot(own, classes).float()
        diverse = torch.randperm(count, generator=rng)[: round(self.diverse_ratio * count)]
        support = most_similar(self.similarity, self.similar_classes)[own[diverse]]
        shares = dirichlet(len(diverse), self.similar_classes, self.concentration, rng)
        labels[diverse] = torch.zeros(len(diverse), classes).scatter(1, support, shares)
        return labels
