"""The constants of scheme ``integer``: what engines, exports and the integer form compute with.

A layer with input codes q_x, weight codes q_w and the BatchNorm gain g and shift b after it has

    y = s_x · s · (Σ q_x q_w · sign(g) + bias),    s = s_w · |g|,    bias = round(b / (s_x · s))

where symmetric codes q_w are those of the weight before and after g is folded into it
(docs/decisions/0013). The code of y on the output's grid is round(y / s_y), half to even.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dynadfq.ops.batch_norm import AnyBatchNorm, gain_and_shift
from dynadfq.quant.activation_site import ActivationFakeQuantize
from dynadfq.quant.layers import LARGEST_BIAS, QuantizedLayer
from dynadfq.quant.quantize import choose_qparams, levels

SMALLEST_SCALE = 1e-20  # of a channel; the product with an activation's scale is normal in float32
LARGEST_INT16 = 2**15 - 1


class SiteConstants(NamedTuple):
    """The grid of one activation site: a value is scale · (code - zero_point).

    scale: () float32.
    zero_point: the unsigned code of 0.0.
    bits: codes are 0 … 2^bits - 1.
    """

    scale: Tensor
    zero_point: int
    bits: int


class FoldedLayer(NamedTuple):
    """A call of a layer with the BatchNorm after it folded into scale and shift.

    codes: (out, …) symmetric integers in float64.
    scale: (out,) float32, positive.
    shift: (out,) float64, what is added to the products in float.
    """

    codes: Tensor
    scale: Tensor
    shift: Tensor


class LayerConstants(NamedTuple):
    """The integers of one call of a layer, BatchNorm included.

    codes: (out, …) int8, symmetric; 0 stands for 0.0.
    scale: (out,) float32, positive.
    bias: (out,) int32, in units of the input's scale times ``scale``.
    """

    codes: Tensor
    scale: Tensor
    bias: Tensor


@torch.no_grad()
def site_constants(site: ActivationFakeQuantize, bits: int | None = None) -> SiteConstants:
    """Return the grid of a site at its own width, or at another."""
    width = site.bits if bits is None else bits
    scale, quant_min = choose_qparams(*site.range_at(width), width)
    return SiteConstants(scale.detach(), -int(quant_min), width)


@torch.no_grad()
def layer_constants(
    layer: QuantizedLayer, norm: AnyBatchNorm | None, input_scale: Tensor
) -> LayerConstants:
    """Return the integers of a layer, as ``folded_layer`` with the bias rounded."""
    codes, scale, shift = folded_layer(layer, norm, input_scale)
    bias = integer_bias(shift, input_scale * scale)
    return LayerConstants(codes.to(torch.int8), scale, bias.to(torch.int32))


def integer_bias(shift: Tensor, unit: Tensor) -> Tensor:
    """Return a shift in whole units of the sums, half to even, in float64; shapes broadcast.

    Args:
        shift: float64.
        unit: float32, scale of the input times scale of the weight.
    """
    return torch.round(shift / unit.double())


@torch.no_grad()
def folded_layer(
    layer: QuantizedLayer, norm: AnyBatchNorm | None, input_scale: Tensor
) -> FoldedLayer:
    """Fold the BatchNorm after a layer with symmetric weights into scale and shift.

    Where a channel's gain is so small that its bias would not fit 2^30, the scale is larger and
    the codes are rounded to it.

    Args:
        layer: the layer.
        norm: the BatchNorm that alone reads it, if any.
        input_scale: () float32 scale of the site that it reads.

    Raises:
        ValueError: weights are not symmetric.
    """
    if not layer.symmetric:
        raise ValueError("layer: its weights are asymmetric; make the student with scheme integer")
    codes, scale = layer.weight_codes()
    channels = len(codes)
    gain = scale.double().flatten().expand(channels)
    shift = gain.new_zeros(channels) if layer.bias is None else layer.bias.double()
    if norm is not None:
        factor, offset = gain_and_shift(norm)
        gain = gain * factor
        shift = shift * factor + offset
    least = (shift.abs() / (input_scale.double() * LARGEST_BIAS)).clamp(min=SMALLEST_SCALE)
    fits = gain.abs() >= least
    final = torch.where(fits, gain.abs(), least).float()
    ratio = torch.where(fits, gain.sign(), gain / final.double())
    signed = torch.round(codes.double() * ratio.view(-1, *[1] * (codes.dim() - 1)))
    return FoldedLayer(signed, final, shift)


def saturates(codes: Tensor, bits: int) -> bool:
    """Return whether processors without VNNI may compute wrong sums of a layer.

    They add two products of 8 bits in int16, so that exact sums need 2 · (2^bits - 1) · max|code| ≤
    32767; weights of 7 bits always have them.

    Args:
        codes: of its weight.
        bits: width of its input.
    """
    return bool(2 * levels(bits) * codes.abs().max().cpu() > LARGEST_INT16)
