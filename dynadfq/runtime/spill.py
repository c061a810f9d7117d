"""Activations of many images, held until they are read: in memory while they are few, beyond that
in temporary files.

The kernel writes pages of such a file out and drops them when memory runs short. A file loses its
name as soon as it is mapped, so that nothing stays behind however the process ends. It lies where
temporary files do (TMPDIR): on a disk, unless the system keeps those in memory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from itertools import chain

import torch
from torch import Tensor

IN_MEMORY = 256 << 20  # bytes of one tensor for all images; a few are held at a time


def held(batch: Tensor, batches: int) -> Tensor:
    """One of so many (B, …) batches, as it is or as a copy in a file; values and strides are the
    same.
    """
    if _fits(batch.nbytes * batches, batch.device) or not _dense(batch):
        return batch
    return _in_file(batch.shape, batch.stride(), batch.dtype).copy_(batch)


def joined(parts: Iterable[Tensor], count: int) -> Tensor:
    """(B, …) batches of ``count`` images together as one (count, …) tensor, laid out as
    ``torch.cat`` does it.

    Beyond what is held in memory it is a file, and a part at a time is in memory.
    """
    following = iter(parts)
    first = next(following)
    like = torch.cat([first[:1], first[:1]])
    outermost = like[0].numel() == like.stride(0)
    if _fits(count * like[0].nbytes, first.device) or not outermost:
        return torch.cat([first, *(part.to(first.device) for part in following)])
    whole, start = _in_file((count, *like.shape[1:]), like.stride(), like.dtype), 0
    for part in chain([first], following):
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def _fits(size: int, device: torch.device) -> bool:
    if device.type == "cuda":
        return size <= torch.cuda.mem_get_info(device)[0] // 4
    return size <= IN_MEMORY


def _dense(tensor: Tensor) -> bool:
    """Whether no two elements share a place, and no place is left out."""
    last = sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return bool(last + 1 == tensor.numel())


def _in_file(shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> Tensor:
    size = torch.Size(shape).numel()
    with tempfile.NamedTemporaryFile(prefix="dynadfq-") as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, not a bus error later
            os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
        mapped: Tensor = torch.from_file(file.name, shared=True, size=size, dtype=dtype)
    return mapped.as_strided(tuple(shape), tuple(strides))
