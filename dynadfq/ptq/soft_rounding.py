"""A rounding that can be learned: each weight lies between its two neighbouring codes until it is
told which one.

Equations are numbered as in AdaRound (Nagel et al., ICML 2020, arXiv 2004.10568).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynadfq.quant.quantize import Granularity, QParams, choose_qparams, levels, quantize

ZETA, GAMMA = 1.1, -0.1  # how far the sigmoid is stretched beyond 0 … 1
SHRINKS, NORM = (
    80,
    2.4,
)  # candidates of the scale search, one percent apart, and the exponent of its error


def rectified_sigmoid(v: Tensor) -> Tensor:
    """How far a weight is rounded up, 0 … 1: a sigmoid that reaches both (Eq. 23).

    >>> rectified_sigmoid(torch.tensor([-3.0, 0.0, 3.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return (torch.sigmoid(v) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def inverse_rectified_sigmoid(share: Tensor) -> Tensor:
    """The v at which ``rectified_sigmoid`` answers ``share``, of 0 … 1."""
    return -torch.log((ZETA - GAMMA) / (share - GAMMA) - 1)


def rounding_regularizer(share: Tensor, beta: float) -> Tensor:
    """Σ (1 - |2h - 1|^β) over all weights (Eq. 24): 0 where each h is 0 or 1.

    >>> rounding_regularizer(torch.tensor([0.0, 0.5, 1.0]), 2.0)
    tensor(1.)
    """
    return (1 - (2 * share - 1).abs().pow(beta)).sum()


@torch.no_grad()
def least_error_qparams(weight: Tensor, bits: int, granularity: Granularity = "channel") -> QParams:
    """Return (scale, quant_min) of a weight: of the shrunk ranges, those of least mean |w - ŵ|^2.4.

    The ranges are (1 - i/100) · (smallest, largest weight) for i = 0 … 79, each channel with its
    own i (the search of BRECQ's released code); (out, 1, …) for a grid an output channel, (1, 1, …)
    for one grid.
    """
    rows = (
        weight.detach().flatten(1) if granularity == "channel" else weight.detach().reshape(1, -1)
    )
    low, high = rows.amin(dim=1, keepdim=True), rows.amax(dim=1, keepdim=True)
    best_scale, best_lowest = choose_qparams(low, high, bits)
    least = torch.full_like(low, math.inf)
    for i in range(SHRINKS):
        scale, quant_min = choose_qparams(low * (1 - i / 100), high * (1 - i / 100), bits)
        values = quantize(rows, scale, quant_min, levels(bits).to(rows)) * scale
        error = (values - rows).abs().pow(NORM).mean(dim=1, keepdim=True)
        better = error < least
        least = torch.where(better, error, least)
        best_scale, best_lowest = (
            torch.where(better, scale, best_scale),
            torch.where(better, quant_min, best_lowest),
        )
    shape = (-1, *[1] * (weight.dim() - 1))
    return best_scale.view(shape), best_lowest.view(shape)


class SoftRounding:
    """A weight whose codes lie between floor and ceiling as far as ``v`` says; at first it is the
    float weight.
    """

    def __init__(self, weight: Tensor, bits: int, on: QParams) -> None:
        self.scale, self.quant_min = on
        position = weight.detach() / self.scale
        self.floor, self.levels = torch.floor(position), levels(bits).to(position)
        self.v = inverse_rectified_sigmoid(position - self.floor).requires_grad_()

    @property
    def share(self) -> Tensor:
        """h, how far each weight is rounded up."""
        return rectified_sigmoid(self.v)

    def weight(self) -> Tensor:
        """The soft weight, differentiable in ``v`` (Eq. 22)."""
        return self._clipped(self.floor + self.share) * self.scale

    def codes(self) -> Tensor:
        """The hard roundings, up where h ≥ 0.5."""
        return self._clipped(self.floor + (self.v.detach() >= 0))

    def _clipped(self, code: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(code, self.quant_min), self.quant_min + self.levels)
