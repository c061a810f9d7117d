"""Multiply-accumulates as fvcore counts them on the float network as it came, with no code of the
library's count.
"""

from __future__ import annotations

import importlib
import logging
from math import prod
from typing import Any

import torch
from torch import nn

PRODUCTS = (
    "conv",
    "linear",
    "addmm",
    "matmul",
    "bmm",
    "baddbmm",
    "einsum",
    "scaled_dot_product_attention",
)


def count(module: nn.Module, image: torch.Tensor) -> int:
    """Return the MACs of one (1, C, H, W) image in convolutions and matrix products."""
    fvcore = importlib.import_module("fvcore.nn")
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused operator hides its products
    try:
        analysis = fvcore.FlopCountAnalysis(module, image)
        analysis.set_op_handle("aten::scaled_dot_product_attention", _attention)
        counted = (
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
        )
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(sum(counted[name] for name in PRODUCTS))


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Scores and weighted values: two products of (…, queries, keys, features)."""
    query, key, value = (_shape(inputs[i]) for i in range(3))
    batch, queries, keys = prod(query[:-2]), query[-2], key[-2]
    return batch * queries * keys * (query[-1] + value[-1])


def _shape(value: Any) -> list[int]:
    sizes: list[int] = value.type().sizes()
    return sizes
