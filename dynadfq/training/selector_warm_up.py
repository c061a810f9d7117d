"""A warm-up for the bit selector: it learns from measured sensitivities of synthetic images before
fine-tuning.

The straight-through gradient of Eq. 9 tells a selector little: to first order every width but the
chosen one looks better, finer and coarser alike. Here each site of each image is set to each
candidate in turn (``site_sensitivity``), and the selector learns to spend the budget where that
hurt: it minimizes the expected divergence from the teacher plus a multiplier on expected bit-FLOPs,
and the multiplier moves until the mean cost is the target's (dual ascent). Not in the paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dynadfq.quant.model import Student
from dynadfq.quant.selector import BitSelector
from dynadfq.quant.sensitivity import passes, site_sensitivity
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.seeding import generator, global_stream
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import SelectorTrainingConfig

BATCH = 128  # images
MULTIPLIER_RATE = 5.0  # how far the multiplier moves for a mean cost off by the whole target


def warm_up_selector(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    settings: SelectorTrainingConfig,
    seed: int,
) -> None:
    """Teach a calibrated student's selector in place; without a selector, or with 0 images, nothing
    happens.
    """
    selector, count = student.selector, min(settings.warm_up_images, len(images))
    if selector is None or not count:
        return
    with Progress("sensitivity", -(-count // BATCH) * passes(student), unit="pass") as progress:
        divergence = site_sensitivity(student, teacher, _batches(images, count), progress)
    features = pooled_features(student, selector, _batches(images, count))
    with global_stream(seed, "warm_start"):
        _fit(
            student,
            selector,
            features,
            divergence.to(features),
            settings,
            generator(seed, "warm_start"),
        )
    student.eval()


def _batches(images: SyntheticSet, count: int) -> Iterator[Tensor]:
    """The first images, a batch at a time in memory."""
    return (batch.images for batch in images.batches(BATCH, count))


@torch.no_grad()
def pooled_features(student: Student, selector: BitSelector, batches: Iterable[Tensor]) -> Tensor:
    """Return the selector's pooled inputs: (N, features) float32."""
    device, seen = next(student.parameters()).device, list[Tensor]()
    with _watching(selector.pool, seen):
        for batch in batches:
            student.run(batch.to(device))
    return torch.cat(seen).flatten(1).float()


@contextmanager
def _watching(module: nn.Module, seen: list[Tensor]) -> Iterator[None]:
    handle = module.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        yield
    finally:
        handle.remove()


def _fit(
    student: Student,
    selector: BitSelector,
    features: Tensor,
    divergence: Tensor,
    settings: SelectorTrainingConfig,
    rng: torch.Generator,
) -> None:
    fixed = selector.fixed_sites
    harm = divergence[:, fixed:] - divergence.amin(dim=2, keepdim=True)[:, fixed:]
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
        widest = p.new_zeros(len(p), fixed, p.shape[2])
        widest[:, :, -1] = 1
        ratio = student.bit_flops_ratio(
            (torch.cat([widest, p], dim=1) * selector.widths).sum(dim=2)
        ).mean()
        loss = (p * harm[chosen]).sum(dim=(1, 2)).mean() + multiplier * ratio
        adam.zero_grad()
        loss.backward()
        adam.step()
        multiplier += MULTIPLIER_RATE * float(ratio.detach() - 1)
