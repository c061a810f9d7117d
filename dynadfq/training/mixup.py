"""Difficulty-aware mixup: easy images are blended in pairs, so that they go on teaching (DynaDFQ,
Eqs. 12 and 13).
"""

from __future__ import annotations

import torch
from torch import Tensor


def easiest(losses: Tensor, share: float) -> Tensor:
    """Indices of the share of a batch with the lowest loss: (B,) to (round(share · B),).

    >>> easiest(torch.tensor([0.3, 0.1, 0.2, 0.4]), 0.5).tolist()
    [1, 2]
    """
    return losses.argsort(stable=True)[: round(share * len(losses))]


def mix_pairs(
    images: Tensor, soft_labels: Tensor, chosen: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Replace each chosen image and label by λ · itself + (1 - λ) · another chosen one, λ ~ U(0, 1)
    a pair.

    (B, C, H, W) images, (B, classes) labels and (n,) indices to new images and labels; those not
    chosen stay as they are.
    """
    chosen = chosen[torch.randperm(len(chosen), generator=rng).to(chosen.device)]
    partners = chosen.roll(1)  # a cycle in random order: nobody is its own partner
    share = torch.rand(len(chosen), generator=rng).to(images)
    mixed_images, mixed_labels = images.clone(), soft_labels.clone()
    pixels = share.view(-1, 1, 1, 1)
    mixed_images[chosen] = pixels * images[chosen] + (1 - pixels) * images[partners]
    mixed_labels[chosen] = (
        share[:, None] * soft_labels[chosen] + (1 - share[:, None]) * soft_labels[partners]
    )
    return mixed_images, mixed_labels
