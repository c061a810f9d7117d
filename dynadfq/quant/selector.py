"""The bit selector: one small network that chooses a width for every site of every image (DynaDFQ,
Eq. 8).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dynadfq.ops.precision import in_float32, to_float32
from dynadfq.quant.bits import BitAllocation, allocate, penalized
from dynadfq.quant.layers import QuantLinear

SELECTOR_WEIGHT_BITS = (
    4  # in float32 the selector would weigh twice as much as the 4-bit ResNet-20 it serves
)


class BitSelector(nn.Module):
    """Average pool, linear, dropout, linear, softmax over the candidates, as in DynamicQuant (Liu
    et al., CVPR 2022).

    It reads the activation after the second convolution. Sites up to there run at the widest
    candidate; the answer repeats that width for them, so that an allocation always covers all
    sites. Its weights lie on a grid of their own width in both forms; what it reads and computes
    stays float.

    ``multiplier`` is the budget: what a percentage point of the float model's bit-FLOPs costs, in
    nats of the logits. 0 is the selector as it was trained, a large multiplier chooses the cheapest
    width everywhere, a negative one the dearest. A site that no layer reads costs nothing at any
    width, and keeps its choice.

    Args:
        channels: channels of the activation it reads.
        sites: number of activation sites S of the student.
        widths: candidate widths in bits, M of them.
        target: the dearest candidate within it is most probable at the start.
        fixed_sites: sites that run before the selector can answer.
        initial_bias: warm-up of the target's logit.
        percent_per_bit: (S,) what a bit at each site costs an image, in percent of the float
            model's bit-FLOPs; zeros when None, and the multiplier has no effect.
    """

    def __init__(
        self,
        channels: int,
        sites: int,
        widths: Sequence[int],
        target: int,
        fixed_sites: int = 1,
        pool: int = 8,
        hidden: int = 64,
        dropout: float = 0.2,
        initial_bias: float = 1.0,
        percent_per_bit: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.sites, self.fixed_sites = sites, fixed_sites
        self.register_buffer("widths", torch.tensor(widths, dtype=torch.float32), persistent=False)
        per_bit = torch.zeros(sites) if percent_per_bit is None else percent_per_bit
        self.register_buffer(
            "costs", per_bit.double()[fixed_sites:, None] * self.widths.double(), persistent=False
        )
        self.register_buffer("multiplier", torch.zeros((), dtype=torch.float64), persistent=False)
        self.pool = nn.AdaptiveAvgPool2d(pool)
        self.hidden = _quantized(nn.Linear(channels * pool * pool, hidden))
        self.dropout = nn.Dropout(dropout)
        self.choice = _quantized(nn.Linear(hidden, (sites - fixed_sites) * len(widths)))
        nn.init.normal_(self.choice.weight, std=0.01)
        bias = torch.zeros(sites - fixed_sites, len(widths))
        bias[:, sum(width <= target for width in widths) - 1] = initial_bias
        self.choice.bias = nn.Parameter(bias.flatten())

    widths: Tensor
    costs: Tensor  # (dynamic sites, M) float64, percent of the float model's bit-FLOPs
    multiplier: Tensor  # () float64, nats for each percentage point

    def forward(self, x: Tensor, allocation: BitAllocation | None = None) -> BitAllocation:
        """(B, C, H, W) activation to the allocation of its batch; one given from outside is passed
        on instead.
        """
        if allocation is not None:
            return allocation
        if self.training:
            return allocate(self.probabilities(x), self.widths)
        return BitAllocation(self.choose(self.answer(x), self.multiplier))

    def probabilities(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, S, M), rows sum to 1; the fixed sites take the widest candidate for
        certain.
        """
        logits = self.answer(x)
        fixed = torch.zeros(len(x), self.fixed_sites, len(self.widths), device=x.device)
        fixed[:, :, -1] = 1.0
        return torch.cat(
            [fixed, penalized(logits, self.costs, self.multiplier).to(logits).softmax(dim=2)], dim=1
        )

    def choose(self, logits: Tensor, multiplier: Tensor | float) -> Tensor:
        """Widths at a multiplier: (B, dynamic sites, M) logits to (B, S) bits; the cheapest of
        equals.
        """
        chosen = self.widths[penalized(logits, self.costs, multiplier).argmax(dim=2)]
        return torch.cat(
            [self.widths[-1:].expand(len(logits), self.fixed_sites), chosen], dim=1
        ).detach()

    def answer(self, x: Tensor) -> Tensor:
        """(B, C, H, W) activation to (B, dynamic sites, M) logits, which no multiplier has
        changed.
        """
        with in_float32(x.device):
            return self.logits(self.pool(to_float32(x) if self.training else x.double()).flatten(1))

    def logits(self, features: Tensor) -> Tensor:
        """(B, features) pooled activation to (B, dynamic sites, M).

        In float64 when evaluating, so that an image's batch cannot tip a choice.
        """
        if self.training:
            out = self.choice(self.dropout(self.hidden(features)))
        else:
            out = self.choice.in_float64(self.hidden.in_float64(features)).float()
        logits: Tensor = out.view(len(features), self.sites - self.fixed_sites, len(self.widths))
        return logits

    def extra_repr(self) -> str:
        return f"multiplier={self.multiplier.item():g}"

    @property
    def macs(self) -> int:
        """MACs the selector adds to an image."""
        return self.hidden.weight.numel() + self.choice.weight.numel()


def _quantized(layer: nn.Linear) -> QuantLinear:
    return QuantLinear.from_float(layer, SELECTOR_WEIGHT_BITS)
