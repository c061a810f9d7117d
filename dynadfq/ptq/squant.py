"""SQuant: round weights such that errors cancel in each kernel and each channel, without data.

Guo et al., "SQuant: On-the-Fly Data-Free Quantization via Diagonal Hessian Approximation", ICLR
2022, arXiv 2202.07471.

An output channel's expected squared error is eᵀ E[xxᵀ] e for rounding errors e. SQuant approximates
E[xxᵀ] by a diagonal (SQuant-E), a constant block a kernel (SQuant-K) and a constant block a channel
(SQuant-C). Minimizing the sum keeps every |e| < 1, every kernel's sum of errors below 1 and every
channel's within ±0.5. This is done by flipping the roundings of the weights with the largest
errors against the sign of the sum, first in each kernel, then in each channel, where each kernel
offers one weight.

Where a kernel's errors already sum to zero, the released code takes its last element as the
candidate of stage C (an index of -1); here it is the element with the largest error, as in any
other kernel that was not over-flipped.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dynadfq.quant.layers import QuantizedLayer
from dynadfq.quant.model import Student
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher


class Flips(NamedTuple):
    """The flips of one stage in its rows, (R, M) or (R, 1).

    change: -1, 0 or 1, to be added to the codes.
    priority: error that a flip in the row's direction removes; 0 where it is not allowed.
    rank: place in the order of priorities.
    made: number of flips in the row.
    total: absolute sum of the row's errors before.
    rising: whether codes are raised, not lowered.
    """

    change: Tensor
    priority: Tensor
    rank: Tensor
    made: Tensor
    total: Tensor
    rising: Tensor


def squant_codes(x: Tensor, quant_min: Tensor, levels: int) -> Tensor:
    """Return the (out, in, K) codes of weights in units of their scale.

    Linear layers and 1×1 convolutions have K = 1 and skip the stage within kernels; a depthwise
    convolution has in = 1. All four weights of this kernel would be rounded down and lose 1.57
    steps together; two are raised:

    >>> x = torch.tensor([[[1.45, 0.3, 1.42, 0.4]]], dtype=torch.float64)
    >>> squant_codes(x, torch.zeros(1, 1, 1), 7)
    tensor([[[2., 0., 2., 0.]]], dtype=torch.float64)

    Args:
        x: (out, in, K) weights divided by their scale.
        quant_min: (out or 1, 1, 1) smallest code.
        levels: largest code minus the smallest.
    """
    codes = torch.round(x)
    error = codes - x
    up = torch.where((error < 0) & (x < quant_min + levels), -error, 0.0)
    down = torch.where((error > 0) & (x > quant_min), error, 0.0)
    if x.shape[2] > 1:
        flips = flip_rows(*(part.flatten(0, 1) for part in (error, up, down)))
        codes = codes + flips.change.view_as(x)
        error = codes - x
        up, down = (part.view_as(x) for part in _candidates(flips, error.flatten(0, 1)))
    codes = codes + flip_rows(error.flatten(1), up.flatten(1), down.flatten(1)).change.view_as(x)
    return torch.minimum(torch.maximum(codes, quant_min), quant_min + levels)


def flip_rows(error: Tensor, up: Tensor, down: Tensor) -> Flips:
    """Flip round(|sum|) roundings in each row against the sum's sign, highest priority first.

    Args:
        error: (R, M) rounding errors.
        up: (R, M) priorities of raising a code, 0 where that is not allowed.
        down: (R, M) priorities of lowering a code.
    """
    total = error.sum(dim=1, keepdim=True)
    rising = total < 0
    priority = torch.where(rising, up, down)
    order = torch.argsort(priority, dim=1, descending=True, stable=True)
    places = torch.arange(error.shape[1], device=error.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    made = torch.minimum(total.abs().round(), (priority > 0).sum(dim=1, keepdim=True))
    change = (rank < made) * torch.where(rising, 1.0, -1.0).to(error)
    return Flips(change, priority, rank, made, total.abs(), rising)


def _candidates(flips: Flips, error: Tensor) -> tuple[Tensor, Tensor]:
    """Priorities of raising and of lowering in stage C, (R, M): one weight per kernel.

    A kernel that was flipped past zero offers to undo its last flip, any other its next flip.
    """
    past = (flips.made > 0) & (flips.made >= flips.total)
    offered = (flips.rank == flips.made - past.to(flips.made)) & (flips.priority > 0)
    priority = error.abs() * offered
    rising = flips.rising != past
    return priority * rising, priority * ~rising


@torch.no_grad()
def squant_layer(layer: QuantizedLayer) -> None:
    """Round one layer's weight and freeze it; a second time changes nothing."""
    qparams = layer.qparams
    scale, quant_min = (part.double() for part in qparams)
    x = layer.weight.double() / scale
    kernels = x.view(*x.shape[:2], -1)
    codes = squant_codes(kernels, quant_min.view(-1, 1, 1), int(layer.weight_levels))
    layer.freeze_weight(codes.view_as(x).to(layer.weight), qparams)


def squant_rounding(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    seed: int = 0,
    scratch: Scratch | None = None,
) -> None:
    """Round the weights of every layer by SQuant, in place, with the qparams that they have.

    Of the arguments it uses the student alone.
    """
    for layer in student.layers:
        squant_layer(layer)
