"""How precisely convolutions and linear layers multiply while images are made and students learn.

TF32 keeps ten bits of a factor's mantissa, bfloat16 seven, and the maps between layers are bfloat16 then too. All else
is float32: batch statistics, logits and losses, the selector, quantization steps, weights and what an optimiser keeps.
Nothing is measured so: evaluation is in float32. docs/performance.md has what it gains and what it costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor

Precision = Literal["float32", "tf32", "bfloat16"]


def require_precision(precision: str, device: torch.device) -> None:
    """See that a device can multiply so.

    Raises:
        ValueError: the precision is unknown, or a CPU is to multiply in TF32.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision: {precision!r} is none of {', '.join(get_args(Precision))}")
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"precision: tf32 is a GPU's, and the device is {device}; set precision: float32 or bfloat16")


@contextmanager
def multiplying(precision: Precision, device: torch.device) -> Iterator[None]:
    """Within this block products on a device are of this precision; nothing is left behind.

    Raises:
        ValueError: as ``require_precision``.
    """
    require_precision(precision, device)
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
    try:
        # Without a cache: it would keep parameters as they were when the block was entered.
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False):
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def widened(x: Tensor) -> Tensor:
    """bfloat16 as float32; any other type as it is."""
    return x.float() if x.dtype == torch.bfloat16 else x


def in_float32(device: torch.device) -> torch.autocast:
    """Within this block products of float32 are of float32, whatever precision is set around it."""
    return torch.autocast(device.type, enabled=False)
