"""Layers and bit selector in integer form: integer weights, and a multiplier per output channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dynadfq.export.conversion_report import Fact
from dynadfq.export.modules import AveragePool, SelectorCodes
from dynadfq.export.multiply import CodeLayer, FloatInputLayer, WeightCodes
from dynadfq.export.products import Geometry, averaging_matrix
from dynadfq.export.requantize import IntegerLayer
from dynadfq.ops.batch_norm import AnyBatchNorm, gain_and_shift
from dynadfq.quant.integer import folded_layer, integer_bias
from dynadfq.quant.layers import EXACT_IN_FLOAT32, QuantizedLayer
from dynadfq.quant.selector import BitSelector


def integer_weight(layer: QuantizedLayer) -> tuple[WeightCodes, Tensor]:
    """Return the codes of a layer's weight, and its scale, (out or 1,) float64."""
    codes, scale = layer.weight_codes()
    return WeightCodes(codes, layer.qparams[1], layer.weight_bits), scale.double().flatten()


def multiplier(
    layer: QuantizedLayer, scale: Tensor, norm: AnyBatchNorm | None
) -> tuple[Tensor, Tensor]:
    """Return gain and shift after the accumulator of codes, (out,) float64 each.

    Args:
        layer: a quantized layer.
        scale: (out or 1,) float64 scale of its weight; that of the activation is not included.
        norm: the BatchNorm after it.
    """
    channels = layer.weight.shape[0]
    bias = torch.zeros(channels).double() if layer.bias is None else layer.bias.double()
    gain = scale.expand(channels)
    if norm is None:
        return gain, bias
    factor, shift = gain_and_shift(norm)
    return gain * factor, bias * factor + shift


def code_layer(
    name: str, layer: QuantizedLayer, norm: AnyBatchNorm | None, reads: tuple[int, int] | None
) -> tuple[CodeLayer | FloatInputLayer, Fact]:
    """Return one layer's integer form, and how it is computed.

    Args:
        name: name of the layer.
        layer: the quantized layer.
        norm: the BatchNorm after it.
        reads: the smallest and the largest code in its input; None for an input of floats.
    """
    weight, scale = integer_weight(layer)
    gain, shift = multiplier(layer, scale, norm)
    geometry = Geometry.of(layer) if isinstance(layer, nn.Conv2d) else None
    if reads is None:
        fact = Fact(name, "float32")  # all activations are float32
        if layer.exact:
            fact = Fact(name, "float64", reason="reads no quantized activation")
        return FloatInputLayer(weight, geometry, gain, shift, layer.exact), fact
    fact = sums_fact(name, weight, geometry, reads)
    return CodeLayer(weight, geometry, gain, shift, reads, fact.form == "wide integer"), fact


def sums_fact(
    name: str, weight: WeightCodes, geometry: Geometry | None, reads: tuple[int, int]
) -> Fact:
    """Return in which numbers the sums of a layer are exact."""
    smallest, largest = reads
    weight_sum = weight.signed(torch.float64).abs().flatten(1).sum(dim=1).max()
    largest_sum = max(-smallest, largest) * float(weight_sum)
    wide = largest_sum >= EXACT_IN_FLOAT32
    reasons = []
    if wide:
        reasons.append(
            f"sums of {largest_sum:.0f} are not exact in float32, which ends at "
            f"{EXACT_IN_FLOAT32:.0f}"
        )
    if not smallest <= 0 <= largest:
        padded = geometry is not None and geometry.padded
        reasons.append(
            "0.0 is outside its input's range" + (", so padding is not exact" if padded else "")
        )
    return Fact(name, "wide integer" if wide else "integer", largest_sum, "; ".join(reasons))


def requantized_layer(
    name: str,
    layer: QuantizedLayer,
    norm: AnyBatchNorm | None,
    reads: tuple[int, int],
    input_scale: Tensor,
    finest_scale: Tensor,
) -> tuple[IntegerLayer, Fact]:
    """Return a layer of scheme ``integer``, whose sums include its bias; and how it is computed.

    Args:
        name, layer, norm, reads: as for ``code_layer``.
        input_scale: () scale of its input.
        finest_scale: () smallest scale that its input may have.
    """
    folded = folded_layer(layer, norm, input_scale)
    weight = WeightCodes(folded.codes, layer.qparams[1].double(), layer.weight_bits)
    geometry = Geometry.of(layer) if isinstance(layer, nn.Conv2d) else None
    fact = sums_fact(name, weight, geometry, reads)
    bias = integer_bias(folded.shift, finest_scale * folded.scale).abs().max()
    wide_bias = float(bias) + (fact.largest_sum or 0.0) >= EXACT_IN_FLOAT32
    wide = fact.form == "wide integer"
    return IntegerLayer(weight, geometry, folded, reads, wide, wide_bias), fact


def selector_codes(selector: BitSelector, shape: Sequence[int]) -> SelectorCodes:
    """Return the integer form of a bit selector that reads (1, C, H, W) activations."""
    size = selector.pool.output_size
    assert isinstance(size, int)
    pool = AveragePool(averaging_matrix(shape[2], size), averaging_matrix(shape[3], size))
    hidden = _float_input_layer(selector.hidden)
    choice = _float_input_layer(selector.choice)
    widths = selector.widths.to(torch.int64)
    return SelectorCodes(pool, hidden, choice, widths, selector.costs, selector.multiplier)


def _float_input_layer(layer: QuantizedLayer) -> FloatInputLayer:
    weight, scale = integer_weight(layer)
    gain, shift = multiplier(layer, scale, None)
    return FloatInputLayer(weight, None, gain, shift, layer.exact)
