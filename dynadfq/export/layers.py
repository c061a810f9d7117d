"""Layers in integer form: integer weights, and the multiplier behind the accumulator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynadfq.export.conversion_report import Fact
from dynadfq.export.multiply import CodeLayer, FloatInputLayer, WeightCodes
from dynadfq.export.products import Geometry
from dynadfq.quant.layers import EXACT_IN_FLOAT32, QuantizedLayer
from dynadfq.quant.quantize import quantize_weight

BatchNorm = nn.modules.batchnorm._BatchNorm


def norm_multiplier(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Gain and shift of a BatchNorm in eval mode, (C,) float64 each: x · gain + shift.

    Raises:
        ValueError: it keeps no statistics, so that an image's result would depend on its batch.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(
            "a BatchNorm without running statistics mixes the images of a batch; it cannot be converted"
        )
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    gain = 1 / torch.sqrt(variance + norm.eps)
    if norm.weight is not None:
        gain = gain * norm.weight.double()
    shift = -mean * gain
    return gain, shift if norm.bias is None else shift + norm.bias.double()


def integer_weight(layer: QuantizedLayer) -> tuple[WeightCodes, Tensor]:
    """The codes of a layer's weight, and its step, (out or 1,) float64."""
    grid = layer.qparams
    codes, scale = quantize_weight(layer.weight, layer.weight_bits, grid)
    return WeightCodes(codes, grid[1], layer.weight_bits), scale.double().flatten()


def multiplier(
    layer: QuantizedLayer, step: Tensor, norm: BatchNorm | None
) -> tuple[Tensor, Tensor]:
    """What follows the accumulator of codes: gain and shift, (out,) float64 each, without the
    activation's step.
    """
    bias = (
        torch.zeros(layer.weight.shape[0]).double() if layer.bias is None else layer.bias.double()
    )
    gain = step.expand(layer.weight.shape[0])
    if norm is None:
        return gain, bias
    factor, shift = norm_multiplier(norm)
    return gain * factor, bias * factor + shift


def code_layer(
    name: str, layer: QuantizedLayer, norm: BatchNorm | None, reads: tuple[int, int] | None
) -> tuple[CodeLayer | FloatInputLayer, Fact]:
    """One layer's module, and the form it took.

    ``reads`` are the smallest and the largest code in its input, None for an input of floats.
    """
    weight, step = integer_weight(layer)
    gain, shift = multiplier(layer, step, norm)
    geometry = Geometry.of(layer) if isinstance(layer, nn.Conv2d) else None
    if reads is None:
        why = "reads no quantized activation"
        return FloatInputLayer(weight, geometry, gain, shift), Fact(name, "float64", reason=why)
    quant_min, highest = reads
    largest_sum = max(-quant_min, highest) * float(
        weight.signed(torch.float64).abs().flatten(1).sum(dim=1).max()
    )
    reasons = []
    if largest_sum >= EXACT_IN_FLOAT32:
        reasons.append(
            f"sums of {largest_sum:.0f} are not exact in float32, which ends at {EXACT_IN_FLOAT32:.0f}"
        )
    if not quant_min <= 0 <= highest:
        padded = geometry is not None and geometry.padded
        reasons.append(
            "0.0 lies outside its input's range"
            + (", so that it pads with a value off it" if padded else "")
        )
    wide = largest_sum >= EXACT_IN_FLOAT32
    fact = Fact(name, "wide integer" if wide else "integer", largest_sum, "; ".join(reasons))
    return CodeLayer(weight, geometry, gain, shift, reads, wide), fact
