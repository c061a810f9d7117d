"""The bit selector in integer form."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dynadfq.export.layers import integer_weight, multiplier
from dynadfq.export.modules import AveragePool, SelectorCodes
from dynadfq.export.multiply import FloatInputLayer
from dynadfq.export.products import averaging_matrix
from dynadfq.quant.layers import QuantLinear
from dynadfq.quant.selector import BitSelector


def selector_codes(selector: BitSelector, shape: Sequence[int]) -> SelectorCodes:
    """Convert a selector that reads activations of one image's ``shape`` (1, C, H, W)."""
    size = selector.pool.output_size
    assert isinstance(size, int)
    pool = AveragePool(averaging_matrix(shape[2], size), averaging_matrix(shape[3], size))
    hidden, choice = _float_input(selector.hidden), _float_input(selector.choice)
    widths = selector.widths.to(torch.int64)
    return SelectorCodes(pool, hidden, choice, widths, selector.costs, selector.multiplier)


def _float_input(layer: QuantLinear) -> FloatInputLayer:
    weight, step = integer_weight(layer)
    return FloatInputLayer(weight, None, *multiplier(layer, step, None))
