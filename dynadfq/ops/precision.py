"""How precisely convolutions and linear layers multiply while images are made and students learn.

TF32 keeps ten bits of a factor's mantissa, bfloat16 seven, and the maps between layers are bfloat16
then too. All else is float32: batch statistics, logits and losses, the selector, quantization
steps, weights and what an optimizer keeps. Nothing is measured so: evaluation is in float32.
docs/performance.md has what it gains and what it costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast, get_args

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
        raise ValueError(
            f"precision: tf32 is a GPU's, and the device is {device}; set precision: float32 or bfloat16"
        )


@contextmanager
def compute_precision(precision: Precision, device: torch.device) -> Iterator[None]:
    """Within this block products on a device are of this precision; nothing is left behind.

    Raises:
        ValueError: as ``require_precision``.
    """
    require_precision(precision, device)
    # Without a cache: it would keep parameters as they were when the block was entered.
    narrow = torch.autocast(
        device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False
    )
    with _tf32(precision == "tf32"), narrow:
        yield


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Whether a GPU may multiply float32 in TF32, which torch by default allows convolutions and
    forbids products.
    """
    switches, states = _switches()
    before = [getattr(switch, name) for switch, name in switches]
    try:
        for switch, name in switches:
            setattr(switch, name, states[allowed])
        yield
    finally:
        for (switch, name), state in zip(switches, before, strict=True):
            setattr(switch, name, state)


def _switches() -> tuple[list[tuple[Any, str]], tuple[Any, Any]]:
    """Torch's switches, and their states for "no" and "yes"; newer ones must not be mixed with
    those before 2.9.
    """
    matmul, cudnn = torch.backends.cuda.matmul, cast(Any, torch.backends.cudnn)
    if hasattr(matmul, "fp32_precision"):
        return [(switch, "fp32_precision") for switch in (matmul, cudnn.conv, cudnn.rnn)], (
            "ieee",
            "tf32",
        )
    return [(switch, "allow_tf32") for switch in (matmul, cudnn)], (False, True)


def to_float32(x: Tensor) -> Tensor:
    """bfloat16 as float32; any other type as it is."""
    return x.float() if x.dtype == torch.bfloat16 else x


def in_float32(device: torch.device) -> torch.autocast:
    """Within this block products of float32 are of float32, whatever precision is set around it."""
    return torch.autocast(device.type, enabled=False)
