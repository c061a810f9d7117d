"""Bit allocations: the width of each activation site for each image."""

from __future__ import annotations

from operator import index
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynadfq.graph.config import FLOAT_BITS
from dynadfq.runtime.errors import InvalidArgument, shown


class BitAllocation(NamedTuple):
    """The widths of one batch, an ordinary value in the student's graph.

    bits: (B, S) chosen widths in bits; B may be 1 where all images share them. In training they
        carry the straight-through gradient of the expected width, so that ∂bits/∂p_m = b_m.
    probabilities: (B, S, M) over the candidates, or None where nothing is learned.
    widths: (M,) candidate widths in bits, or None where nothing is learned.
    """

    bits: Tensor
    probabilities: Tensor | None = None
    widths: Tensor | None = None


def checked_widths(bits: Any, sites: int, widest: int) -> list[int]:
    """Return a width for each site.

    >>> checked_widths(4, 3, 8), checked_widths(torch.tensor([3, 5, 4]), 3, 8)
    ([4, 4, 4], [3, 5, 4])

    Args:
        bits: one width for all, or one per site; whole numbers of Python, NumPy or torch.
        sites: number of sites.
        widest: the largest width.

    Raises:
        InvalidArgument: a width is not a whole number in 2 … ``widest``, or there are not as many
            as sites.
    """
    try:
        given = list(bits)
    except TypeError:  # a single number
        given = [bits] * sites
    if len(given) != sites:
        raise InvalidArgument("bits", f"{len(given)} widths for {sites} sites; give one per site")
    widths = []
    for value in given:
        try:
            width = 0 if isinstance(value, bool) else index(value)
        except TypeError:
            width = 0
        if not 2 <= width <= widest:
            raise InvalidArgument(
                "bits",
                f"a width must be a whole number in 2 … {widest}; got {shown(width or value)}",
            )
        widths.append(width)
    return widths


def widths_or_float(bits: Tensor) -> Tensor:
    """Return (B, S) widths in bits; without any site (B, 1) of 32, since activations are float32.

    >>> widths_or_float(torch.zeros(2, 0))
    tensor([[32.],
            [32.]])
    """
    return bits if bits.shape[1] else bits.new_full((len(bits), 1), FLOAT_BITS)


def uniform(bits: int, sites: int) -> BitAllocation:
    """Return the same width for every site of every image."""
    return BitAllocation(torch.full((1, sites), float(bits)))


def penalized(logits: Tensor, costs: Tensor, multiplier: Tensor | float) -> Tensor:
    """Return logits minus multiplier times cost, in float64.

    The width of the largest is argmax(log p - multiplier · cost): as the multiplier rises, no site
    chooses a more expensive width.

    >>> penalized(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[3.0, 4.0]]), 2.0)
    tensor([[[-6., -7.]]], dtype=torch.float64)

    Args:
        logits: (B, S, M).
        costs: (S, M) in percent of the float model's bit-FLOPs.
        multiplier: Lagrange multiplier in nats per percentage point.
    """
    return logits.double() - multiplier * costs.double()


def allocate(probabilities: Tensor, widths: Tensor) -> BitAllocation:
    """Return the most probable width of each site, with a straight-through gradient (Eq. 9).

    >>> allocate(torch.tensor([[[0.2, 0.5, 0.3]]]), torch.tensor([3.0, 4.0, 5.0])).bits
    tensor([[4.]])

    Args:
        probabilities: (B, S, M) over the candidates.
        widths: (M,) candidate widths in bits.
    """
    hard = widths[probabilities.argmax(dim=2)]
    soft = (probabilities * widths).sum(dim=2)
    return BitAllocation(hard + (soft - soft.detach()), probabilities, widths)
