"""The bit selector: a small network that chooses the width of every site (DynaDFQ, Eq. 8)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dynadfq.ops.precision import in_float32, to_float32
from dynadfq.quant.bits import BitAllocation, allocate, penalized
from dynadfq.quant.layers import QuantLinear
from dynadfq.quant.selector_config import SelectorShape

# In float32 the selector would take twice the memory of a 4-bit ResNet-20.
SELECTOR_WEIGHT_BITS = 4
DEFAULT_SHAPE = SelectorShape()


class BitSelector(nn.Module):
    """Average pool, linear, dropout, linear, softmax (DynamicQuant, Liu et al., CVPR 2022).

    It reads the activation after the second convolution. The sites up to there run at the widest
    candidate; an allocation repeats that width for them, and so covers all sites. The selector's
    weights are quantized to a width of their own; its inputs and sums stay float.

    ``multiplier`` is the Lagrange multiplier of the bit budget, in nats of the logits per
    percentage point of the float model's bit-FLOPs. 0 is the selector as trained, a large one
    chooses the cheapest width everywhere, a negative one the most expensive. A site that no layer
    reads costs nothing at any width, and keeps its choice.

    Args:
        channels: channels of the activation it reads.
        sites: number of activation sites S of the student.
        widths: M candidate widths in bits.
        target: the widest candidate up to it is most probable at first.
        fixed_sites: sites that run before the selector.
        shape: sizes of its layers, dropout and initial bias of the target.
        percent_per_bit: (S,) cost of a bit at each site, in percent of the float model's
            bit-FLOPs; zeros when None, and the multiplier has no effect.
    """

    def __init__(
        self,
        channels: int,
        sites: int,
        widths: Sequence[int],
        target: int,
        fixed_sites: int = 1,
        shape: SelectorShape = DEFAULT_SHAPE,
        percent_per_bit: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.sites = sites
        self.fixed_sites = fixed_sites
        per_bit = torch.zeros(sites) if percent_per_bit is None else percent_per_bit
        bits = torch.tensor(widths, dtype=torch.float32)
        costs = per_bit.double()[fixed_sites:, None] * bits.double()
        multiplier = torch.zeros((), dtype=torch.float64)
        self.register_buffer("widths", bits, persistent=False)
        self.register_buffer("costs", costs, persistent=False)
        self.register_buffer("multiplier", multiplier, persistent=False)
        self.pool = nn.AdaptiveAvgPool2d(shape.pool)
        self.hidden = _quantized(nn.Linear(channels * shape.pool**2, shape.hidden))
        self.dropout = nn.Dropout(shape.dropout)
        self.choice = _quantized(nn.Linear(shape.hidden, (sites - fixed_sites) * len(widths)))
        nn.init.normal_(self.choice.weight, std=0.01)
        bias = torch.zeros(sites - fixed_sites, len(widths))
        bias[:, sum(width <= target for width in widths) - 1] = shape.initial_bias
        self.choice.bias = nn.Parameter(bias.flatten())

    widths: Tensor  # (M,) float32, bits
    costs: Tensor  # (dynamic sites, M) float64, percent of the float model's bit-FLOPs
    multiplier: Tensor  # () float64, nats per percentage point

    def forward(self, x: Tensor, allocation: BitAllocation | None = None) -> BitAllocation:
        """Return the allocation of a batch of (B, C, H, W) activations, or the given one."""
        if allocation is not None:
            return allocation
        if self.training:
            return allocate(self.probabilities(x), self.widths)
        return BitAllocation(self.choose(self.image_logits(x), self.multiplier))

    def probabilities(self, x: Tensor) -> Tensor:
        """Return (B, S, M) probabilities for (B, C, H, W) activations."""
        logits = self.image_logits(x)
        scores = penalized(logits, self.costs, self.multiplier).to(logits)
        return self.at_all_sites(scores.softmax(dim=2))

    def at_all_sites(self, dynamic: Tensor) -> Tensor:
        """Return (B, S, M) probabilities, given the (B, dynamic sites, M) of the sites with a
        choice; at the fixed ones, the widest candidate has probability 1.
        """
        fixed = dynamic.new_zeros(len(dynamic), self.fixed_sites, len(self.widths))
        fixed[:, :, -1] = 1.0
        return torch.cat([fixed, dynamic], dim=1)

    def choose(self, logits: Tensor, multiplier: Tensor | float) -> Tensor:
        """Return the (B, S) widths in bits that (B, dynamic sites, M) logits choose.

        Among equal scores, it chooses the cheapest.
        """
        dynamic = self.widths[penalized(logits, self.costs, multiplier).argmax(dim=2)]
        fixed = self.widths[-1:].expand(len(logits), self.fixed_sites)
        return torch.cat([fixed, dynamic], dim=1).detach()

    def image_logits(self, x: Tensor) -> Tensor:
        """Return (B, dynamic sites, M) logits for (B, C, H, W) activations, without multiplier."""
        with in_float32(x.device):
            x = to_float32(x) if self.training else x.double()
            return self.logits(self.pool(x).flatten(1))

    def logits(self, features: Tensor) -> Tensor:
        """Return (B, dynamic sites, M) logits for (B, features) pooled activations.

        Evaluation computes in float64, so that an image's choice does not depend on its batch.
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
        """MACs that the selector adds to an image."""
        return self.hidden.weight.numel() + self.choice.weight.numel()


def _quantized(layer: nn.Linear) -> QuantLinear:
    return QuantLinear.from_float(layer, SELECTOR_WEIGHT_BITS)
