"""Integer form of scheme ``integer``: sums with an integer bias, requantized by one factor.

The order of operations is that of onnxruntime's QLinearConv (docs/decisions/0013): exact sums,
rounded to float32 once, times the float32 factor (s_x · s) / s_y, rounded half to even, clipped.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from dynadfq.export.modules import ActivationCodes
from dynadfq.export.multiply import CodeLayer, WeightCodes
from dynadfq.export.products import Geometry
from dynadfq.graph.calls import called_module, only_user
from dynadfq.graph.integer_sites import UNLIMITED, WITHOUT_EFFECT, clip_limits
from dynadfq.ops.batch_norm import AnyBatchNorm
from dynadfq.quant.activation_site import ActivationFakeQuantize
from dynadfq.quant.integer import FoldedLayer, integer_bias
from dynadfq.quant.quantize import broadcast_first

Sums = tuple[Tensor, Tensor]  # whole numbers, and their unit


class IntegerLayer(CodeLayer):
    """A layer of scheme ``integer``: sums of products of codes, and the bias.

    Args:
        weight: integer weight.
        geometry: of a convolution; None for a linear layer.
        folded: scale and shift, BatchNorm included.
        codes, wide: as for ``CodeLayer``.
        wide_bias: add the bias in float64, since the result is not exact in float32.
    """

    shift: Tensor  # float64

    def __init__(
        self,
        weight: WeightCodes,
        geometry: Geometry | None,
        folded: FoldedLayer,
        codes: tuple[int, int],
        wide: bool,
        wide_bias: bool,
    ) -> None:
        super().__init__(weight, geometry, folded.scale, folded.shift, codes, wide)
        self.wide_bias = wide_bias
        self.register_buffer("shift", folded.shift.view(self.gain.shape))

    def forward(self, codes: Tensor, scale: Tensor) -> Sums:  # type: ignore[override]
        """Return (B, out, …) sums in float32 and their (B or 1, out, …) unit.

        Args:
            codes: (B, …) codes.
            scale: (B or 1, 1, …) scale of the codes.
        """
        sums = self.exact_sums(codes)
        unit = broadcast_first(scale, sums.dim()) * self.gain
        bias = integer_bias(self.shift, unit)
        return (sums + (bias if self.wide_bias else bias.float())).float(), unit


class RequantizedCodes(ActivationCodes):
    """A site that a layer's sums go to: codes from codes, without values in between."""

    def forward(self, sums: Sums, bits: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return (B, …) codes and their (B or 1, 1, …) scale.

        Args:
            sums: (B, …) sums and their unit.
            bits: (B or 1, S) widths.
        """
        whole, unit = sums
        scale, quant_min, n = self.grid(bits, whole.dim())
        codes = torch.round(whole * (unit / scale))
        return torch.minimum(torch.maximum(codes, quant_min), quant_min + n), scale


def values_of_sums(sums: Sums) -> Tensor:
    """Return the values of (B, …) sums with their unit."""
    whole, unit = sums
    return whole * unit


def after_layer(
    network: fx.GraphModule, node: fx.Node
) -> tuple[fx.Node | None, list[fx.Node], bool]:
    """Return what belongs to a call of a layer: each alone reads the one before.

    Returns:
        The BatchNorm, if any; the calls that the layer replaces; and whether a site follows them.
        Without one, they end at the BatchNorm.
    """
    norm: fx.Node | None = None
    merged: list[fx.Node] = []
    up_to_norm = 0
    after = only_user(node)
    while after is not None:
        module = called_module(after, network)
        if isinstance(module, ActivationFakeQuantize):
            return norm, merged, True
        is_norm = isinstance(module, AnyBatchNorm) and norm is None
        clips = clip_limits(module) != UNLIMITED
        if not (is_norm or clips or isinstance(module, WITHOUT_EFFECT)):
            break
        merged.append(after)
        if is_norm:
            norm = after
            up_to_norm = len(merged)
        after = only_user(after)
    return norm, merged[:up_to_norm], False
