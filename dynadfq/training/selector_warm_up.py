"""A warm-up of the bit selector: before fine-tuning it learns from measured sensitivities.

The straight-through gradient of Eq. 9 tells a selector little: to first order every width but the
chosen one looks better, finer and coarser alike. Here each site that the selector chooses for is
set to each candidate in turn (``site_sensitivity``). The selector then minimizes the expected
divergence from the teacher plus a Lagrange multiplier times expected bit-FLOPs, and the multiplier
moves until the mean cost is the target's (dual ascent). This is not in the paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil

import torch
from torch import Tensor

from dynadfq.quant.bit_budget import before_selector
from dynadfq.quant.model import Student
from dynadfq.quant.selector import BitSelector
from dynadfq.quant.sensitivity import passes, site_sensitivity
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.seeding import generator, global_stream
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import SelectorTrainingConfig

BATCH = 128  # images
MULTIPLIER_RATE = 5.0  # step of the multiplier for a mean cost off by the whole target


def warm_up_selector(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    settings: SelectorTrainingConfig,
    seed: int,
) -> None:
    """Train a calibrated student's selector in place.

    Without a selector, or with 0 ``warm_up_images``, nothing happens.
    """
    selector = student.selector
    count = min(settings.warm_up_images, len(images))
    if selector is None or not count:
        return
    with Progress("sensitivity", ceil(count / BATCH) * passes(student), unit="pass") as progress:
        divergence = site_sensitivity(student, teacher, _batches(images, count), progress)
    features = pooled_features(student, selector, _batches(images, count))
    rng = generator(seed, "warm_start")
    try:
        with global_stream(seed, "warm_start"):
            _fit(student, selector, features, divergence.to(features), settings, rng)
    finally:
        student.eval()


def _batches(images: SyntheticSet, count: int) -> Iterator[Tensor]:
    """The first images, one batch at a time in memory."""
    return (batch.images for batch in images.batches(BATCH, count))


@torch.no_grad()
def pooled_features(student: Student, selector: BitSelector, batches: Iterable[Tensor]) -> Tensor:
    """Return the pooled features that the selector reads: (N, features) float32."""
    first_part = before_selector(student.network)
    read = (first_part(batch.to(student.device), None) for batch in batches)
    return torch.cat([selector.pool(x.double()).flatten(1).float() for x in read])


def _fit(
    student: Student,
    selector: BitSelector,
    features: Tensor,
    divergence: Tensor,
    settings: SelectorTrainingConfig,
    rng: torch.Generator,
) -> None:
    """Train the selector on (N, features) and the (N, D, M) divergence of each choice."""
    harm = divergence - divergence.amin(dim=2, keepdim=True)
    harm = harm / harm.mean().clamp(min=1e-12)
    adam = torch.optim.Adam(
        selector.parameters(),
        settings.warm_up_learning_rate,
        weight_decay=settings.warm_up_weight_decay,
    )
    multiplier = 0.0
    student.train()
    for _ in range(settings.warm_up_steps):
        chosen = torch.randint(len(features), (BATCH,), generator=rng).to(features.device)
        p = selector.logits(features[chosen]).softmax(dim=2)
        bits = (selector.at_all_sites(p) * selector.widths).sum(dim=2)
        ratio = student.bit_flops_ratio(bits).mean()
        loss = (p * harm[chosen]).sum(dim=(1, 2)).mean() + multiplier * ratio
        adam.zero_grad()
        loss.backward()
        adam.step()
        multiplier += MULTIPLIER_RATE * float(ratio.detach() - 1)
