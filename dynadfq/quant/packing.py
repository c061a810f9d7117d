"""Unsigned codes of b bits as a stream of bits without gaps: 4-bit codes two a byte, 3-bit codes
eight in three bytes.

Code i takes the bits i·b … (i+1)·b - 1 of the stream, its quant_min bit first; bit j of the stream
is bit j % 8 of byte j // 8, counted from the quant_min. The last byte is filled with zeros.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

CHUNK = 2**20  # codes at a time, a multiple of 8: chunks end at a byte, and memory stays small


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes of any shape, integers in 0 … 2^bits - 1, to (bytes,) uint8.

    >>> [f"{byte:08b}" for byte in pack(torch.tensor([1, 15, 2]), 4)]
    ['11110001', '00000010']

    Raises:
        ArithmeticError: a code does not fit.
    """
    flat = codes.detach().cpu().flatten()
    if len(flat) and not (flat.min() >= 0 and flat.max() < 2**bits):
        raise ArithmeticError(f"codes {flat.min():.0f} … {flat.max():.0f} do not fit {bits} bits")
    return torch.cat([_pack(part, bits) for part in flat.to(torch.uint8).split(CHUNK)])


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """(bytes,) uint8 to the first ``count`` codes, (count,) uint8.

    >>> unpack(pack(torch.tensor([5, 0, 7]), 3), 3, 3)
    tensor([5, 0, 7], dtype=torch.uint8)
    """
    parts = [_unpack(part, bits) for part in packed.split(CHUNK // 8 * bits)]
    return torch.cat(parts)[:count]


def _pack(codes: Tensor, bits: int) -> Tensor:
    stream = np.unpackbits(codes.numpy()[:, None], axis=1, count=bits, bitorder="little")
    return torch.from_numpy(np.packbits(stream, bitorder="little"))


def _unpack(packed: Tensor, bits: int) -> Tensor:
    stream = np.unpackbits(packed.numpy(), bitorder="little")
    codes = stream[: len(stream) // bits * bits].reshape(-1, bits)
    return torch.from_numpy(np.packbits(codes, axis=1, bitorder="little")[:, 0].copy())
