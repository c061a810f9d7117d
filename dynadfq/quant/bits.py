"""Bit allocations: how many bits each activation site of each image gets."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class BitAllocation(NamedTuple):
    """The widths of one batch: an ordinary value that flows through the student's graph.

    bits: (B, S) chosen widths in bits; B may be 1 where all images agree. In training they carry
        the straight-through gradient of the expected width, so that ∂bits/∂p_m = b_m.
    probabilities: (B, S, M) over the candidates, or None where nothing is learned.
    widths: (M,) candidate widths in bits, or None likewise.
    """

    bits: Tensor
    probabilities: Tensor | None = None
    widths: Tensor | None = None


def uniform(bits: int, sites: int) -> BitAllocation:
    """Every site of every image at the same width."""
    return BitAllocation(torch.full((1, sites), float(bits)))


def penalized(logits: Tensor, costs: Tensor, multiplier: Tensor | float) -> Tensor:
    """Logits less multiplier times cost, in float64: (B, S, M) logits and (S, M) costs; at
    multiplier 0 they are as they were.

    The width of the largest is argmax(log p - multiplier · cost). As the multiplier rises, no
    site's choice becomes dearer.

    >>> penalized(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[3.0, 4.0]]), 2.0)
    tensor([[[-6., -7.]]], dtype=torch.float64)
    """
    return logits.double() - multiplier * costs.double()


def allocate(probabilities: Tensor, widths: Tensor) -> BitAllocation:
    """Choose the most probable width of each site: (B, S, M) and (M,) to an allocation,
    straight-through (Eq. 9).

    >>> allocate(torch.tensor([[[0.2, 0.5, 0.3]]]), torch.tensor([3.0, 4.0, 5.0])).bits
    tensor([[4.]])
    """
    hard = widths[probabilities.argmax(dim=2)]
    soft = (probabilities * widths).sum(dim=2)
    return BitAllocation(hard + (soft - soft.detach()), probabilities, widths)
