"""Precision of convolutions and linear layers during synthesis and fine-tuning.

TF32 keeps ten bits of a factor's mantissa, bfloat16 seven; with bfloat16 the maps between layers
are bfloat16 too. Everything else is float32: batch statistics, logits and losses, the selector,
quantization scales, weights and the optimizer's state. Evaluation is always in float32.
docs/performance.md has speed and accuracy of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor

from dynadfq.ops.config import Precision, PrecisionChoice
from dynadfq.runtime.errors import InvalidArgument, require_choice

CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of x86, and of Arm
CPU_INFO = Path("/proc/cpuinfo")


def require_precision(precision: str, device: torch.device) -> None:
    """Check that a device supports a precision.

    Raises:
        ValueError: the precision is unknown, or TF32 is asked of a CPU.
    """
    require_choice("precision", precision, get_args(PrecisionChoice))
    if precision == "tf32" and device.type != "cuda":
        raise InvalidArgument(
            "precision",
            f"tf32 needs a GPU, and the device is {device}; set precision: float32 or bfloat16",
        )


def synthesis_precision(choice: PrecisionChoice, device: torch.device) -> Precision:
    """Return the precision in which images are made: auto is bfloat16 where the device has it.

    Raises:
        ValueError: as ``require_precision``.
    """
    require_precision(choice, device)
    if choice == "auto":
        return "bfloat16" if multiplies_bfloat16(device) else "float32"
    return choice


def finetuning_precision(choice: PrecisionChoice, device: torch.device) -> Precision:
    """Return the precision of fine-tuning: auto is float32.

    bfloat16 makes a step faster, but of students only those of the digits were compared
    (docs/performance.md).

    Raises:
        ValueError: as ``require_precision``.
    """
    require_precision(choice, device)
    return "float32" if choice == "auto" else choice


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for products of bfloat16; others emulate them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not CPU_INFO.is_file():
        return False
    return not CPU_FLAGS.isdisjoint(CPU_INFO.read_text().split())


@contextmanager
def compute_precision(precision: Precision, device: torch.device) -> Iterator[None]:
    """Multiply in this precision on a device while the block runs.

    Args:
        precision: of convolutions and linear layers; ``auto`` is none yet.
        device: where they run.

    Raises:
        ValueError: as ``require_precision``, or the precision is ``auto``.
    """
    require_choice("precision", precision, get_args(Precision))
    require_precision(precision, device)
    # No cache: it would keep parameters as they were when the block was entered.
    autocast = torch.autocast(
        device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False
    )
    with _tf32(precision == "tf32"), autocast:
        yield


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32; torch's default allows it in convolutions and not in products."""
    switches, off, on = _tf32_switches()
    before = [getattr(switch, name) for switch, name in switches]
    try:
        for switch, name in switches:
            setattr(switch, name, on if allowed else off)
        yield
    finally:
        for (switch, name), state in zip(switches, before, strict=True):
            setattr(switch, name, state)


def _tf32_switches() -> tuple[list[tuple[Any, str]], Any, Any]:
    """Torch's switches as (object, attribute), their value for off, and for on.

    Torch 2.9 renamed them, and forbids mixing old and new ones.
    """
    matmul = torch.backends.cuda.matmul
    cudnn = cast(Any, torch.backends.cudnn)
    if hasattr(matmul, "fp32_precision"):
        switches = [(switch, "fp32_precision") for switch in (matmul, cudnn.conv, cudnn.rnn)]
        return switches, "ieee", "tf32"
    return [(matmul, "allow_tf32"), (cudnn, "allow_tf32")], False, True


def to_float32(x: Tensor) -> Tensor:
    """Return a bfloat16 tensor as float32, and any other as it is."""
    return x.float() if x.dtype == torch.bfloat16 else x


def in_float32(device: torch.device) -> torch.autocast:
    """Return a context in which products are float32, whatever precision is set around it."""
    return torch.autocast(device.type, enabled=False)
