"""Agreement of a student's forms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dynadfq.export.engines import Answer
from dynadfq.export.onnx_export import TOLERANCE


@dataclass
class Agreement:
    """One form against the reference, counted over images.

    classes, bits: images with the same class, and with the same width at every site.
    close: with logits within ``TOLERANCE``; beyond it, at the same widths, codes have flipped at a
        rounding boundary.
    logits: with logits equal to the last bit.
    worst: largest difference of a logit; of the images with the same widths, worst_same_bits.
    """

    form: str
    images: int = 0
    classes: int = 0
    bits: int = 0
    close: int = 0
    logits: int = 0
    worst: float = 0.0
    worst_same_bits: float = 0.0

    def add(self, ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> None:
        """Count one batch: (B, classes) logits and (B, S) widths of both."""
        difference = (ours[0] - theirs[0]).abs().amax(dim=1)
        same_bits = (ours[1].float() == theirs[1].float()).all(dim=1)
        self.images += len(difference)
        self.classes += int((ours[0].argmax(dim=1) == theirs[0].argmax(dim=1)).sum())
        self.bits += int(same_bits.sum())
        self.close += int((difference <= TOLERANCE).sum())
        self.logits += int((difference == 0).sum())
        self.worst = max(self.worst, float(difference.max()))
        self.worst_same_bits = max(
            self.worst_same_bits, float(difference[same_bits].max()) if same_bits.any() else 0.0
        )


@torch.no_grad()
def agreements(forms: Mapping[str, Answer], batches: Iterable[Tensor]) -> list[Agreement]:
    """Compare each form with the first, over (B, C, H, W) batches."""
    reference, *others = forms
    found = [Agreement(form) for form in others]
    for images in batches:
        expected = forms[reference](images)
        for agreement in found:
            agreement.add(forms[agreement.form](images), expected)
    return found
