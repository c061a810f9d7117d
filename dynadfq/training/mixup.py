"""Difficulty-aware mixup: easy images are mixed in pairs (DynaDFQ, Eqs. 12 and 13)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from dynadfq.losses.objective import soft_cross_entropy
from dynadfq.runtime import distributed
from dynadfq.training.parts import BatchLoss, BatchStream, TrainingBatch, TrainingContext


def easiest(losses: Tensor, share: float) -> Tensor:
    """Return the indices of the share of a batch with the lowest loss: (B,) to (round(share · B),).

    >>> easiest(torch.tensor([0.3, 0.1, 0.2, 0.4]), 0.5).tolist()
    [1, 2]
    """
    return losses.argsort(stable=True)[: round(share * len(losses))]


def mix_pairs(
    images: Tensor, soft_labels: Tensor, chosen: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Replace each chosen image and label by λ · itself + (1 - λ) · another chosen one.

    λ ~ U(0, 1) is drawn per pair. The partners form a cycle in random order, so that no image is
    its own partner.

    Args:
        images: (B, C, H, W).
        soft_labels: (B, classes).
        chosen: (n,) indices of the images to mix; the others stay as they are.
        rng: source of partners and shares.

    Returns:
        New images and labels.
    """
    chosen = chosen[torch.randperm(len(chosen), generator=rng).to(chosen.device)]
    partners = chosen.roll(1)
    share = torch.rand(len(chosen), generator=rng).to(images)
    pixels = share.view(-1, 1, 1, 1)
    labels = share[:, None]
    mixed_images = images.clone()
    mixed_labels = soft_labels.clone()
    mixed_images[chosen] = pixels * images[chosen] + (1 - pixels) * images[partners]
    mixed_labels[chosen] = labels * soft_labels[chosen] + (1 - labels) * soft_labels[partners]
    return mixed_images, mixed_labels


class EasyMixup:
    """Mixes the easiest images, by the student's cross-entropy, in each batch of a stream.

    Args:
        batches: the stream to wrap.
        loss: run on the unmixed batch to find its easy images; its terms are reported as
            ``<term>_unmixed``.
        context: the teacher, which labels the mixed images, and the length of the training.
        share: fraction of each batch that is mixed.
        start: fraction of the steps after which batches are mixed.
    """

    def __init__(
        self,
        batches: BatchStream,
        loss: BatchLoss,
        context: TrainingContext,
        share: float,
        start: float,
    ) -> None:
        self.batches = batches
        self.loss = loss
        self.teacher = context.teacher
        self.steps_per_epoch = context.steps_per_epoch
        self.share = share
        self.first_step = start * context.steps

    def epoch(self, number: int, rng: torch.Generator) -> Iterator[TrainingBatch]:
        """Yield the wrapped stream's batches, mixed from the first step to mix on."""
        taken = number * self.steps_per_epoch
        for step, batch in enumerate(self.batches.epoch(number, rng), taken):
            yield self._mixed(batch, rng) if step >= self.first_step else batch

    def state_dict(self) -> Mapping[str, Any]:
        """Return the wrapped stream's state."""
        return self.batches.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict``."""
        self.batches.load_state_dict(state)

    @torch.no_grad()
    def _mixed(self, batch: TrainingBatch, rng: torch.Generator) -> TrainingBatch:
        """Mix the easiest images of the whole batch, and return this rank's rows."""
        part = distributed.part()
        value = self.loss(batch)
        unmixed = distributed.means(value.terms)
        losses = distributed.gather(soft_cross_entropy(value.step.logits, batch.soft_labels))
        chosen = easiest(losses, self.share)
        all_images = distributed.gather(batch.images)
        all_labels = distributed.gather(batch.soft_labels)
        mixed_images, mixed_labels = mix_pairs(all_images, all_labels, chosen, rng)
        images = part.of(mixed_images).contiguous(memory_format=self.teacher.memory_format)
        own = part.indices(chosen, len(images))
        teacher_logits = batch.teacher_logits
        if len(own):
            teacher_logits = teacher_logits.index_copy(0, own, self.teacher(images[own]))
        measured = {f"{name}_unmixed": float(term) for name, term in unmixed.items()}
        return batch._replace(
            images=images,
            soft_labels=part.of(mixed_labels),
            teacher_logits=teacher_logits,
            measured={**batch.measured, **measured},
        )
