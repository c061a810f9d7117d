"""Tensors in files: temporary ones for what does not fit in memory, and rows of safetensors files.

A temporary file is mapped into memory: the kernel writes its pages out and drops them when memory
runs short. It loses its name as soon as it is mapped, so that nothing is left behind however the
process ends. It lies where temporary files do (TMPDIR): on a disk, unless the system keeps those in
memory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

IN_MEMORY = 256 << 20  # bytes of one tensor for all images; a few such tensors live at a time
FLOATS = {"F32", "F16"}  # the types that `read_rows` reads, in safetensors' terms


def temporary_tensor(
    shape: Sequence[int],
    dtype: torch.dtype,
    stride: Sequence[int] | None = None,
    folder: Path | None = None,
) -> Tensor:
    """Return an uninitialized tensor in a temporary file that is deleted with it.

    Args:
        shape: its shape.
        dtype: its type.
        stride: its strides in elements, without gaps or overlap; None is row-major.
        folder: where the file lies; None is the system's folder of temporary files.

    Raises:
        OSError: the disk is full.
    """
    size = torch.Size(shape).numel()
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix="dynadfq-", dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, not a bus error later
            os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
        flat: Tensor = torch.from_file(file.name, shared=True, size=size, dtype=dtype)
    return flat.view(tuple(shape)) if stride is None else flat.as_strided(shape, stride)


def spill(batch: Tensor, batches: int) -> Tensor:
    """Return a batch itself, or a copy in a file where so many such batches are too much memory.

    Args:
        batch: (B, ...) values; the copy has the same strides.
        batches: number of such batches that are kept at the same time.
    """
    if _fits(batch.nbytes * batches, batch.device) or not _dense(batch):
        return batch
    return temporary_tensor(batch.shape, batch.dtype, batch.stride()).copy_(batch)


def spill_concatenated(batches: Iterable[Tensor], count: int) -> Tensor:
    """Return (B, ...) batches as one (count, ...) tensor, with the strides of ``torch.cat``.

    Where that is too much memory it lies in a file, and one batch at a time is in memory.

    Args:
        batches: consumed one by one.
        count: number of their rows together.
    """
    following = iter(batches)
    first = next(following)
    like = torch.cat([first[:1], first[:1]])
    rows_are_outermost = like[0].numel() == like.stride(0)
    if _fits(count * like[0].nbytes, first.device) or not rows_are_outermost:
        return torch.cat([first, *(batch.to(first.device) for batch in following)])
    whole = temporary_tensor((count, *like.shape[1:]), like.dtype, like.stride())
    start = 0
    for batch in chain([first], following):
        whole[start : start + len(batch)] = batch
        start += len(batch)
    return whole


def _fits(size: int, device: torch.device) -> bool:
    if device.type == "cuda":
        return size <= torch.cuda.mem_get_info(device)[0] // 4
    return size <= IN_MEMORY


def _dense(tensor: Tensor) -> bool:
    """Whether the elements fill their memory without gaps or overlap."""
    dimensions = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((size - 1) * stride for size, stride in dimensions)
    return bool(last + 1 == tensor.numel())


def tensors_of(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type, in safetensors' terms, and shape of each tensor in a safetensors file.

    Raises:
        ValueError: it is no such file.
    """
    try:
        with safe_open(path, framework="np") as file:
            names = file.keys()
            slices = {name: file.get_slice(name) for name in names}
            return {name: (s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is not a file of tensors ({error}); make it again") from error


def read_rows(
    path: Path, rows: Sequence[int], targets: Mapping[str, Tensor], places: Sequence[int]
) -> None:
    """Read rows of tensors in a safetensors file without keeping it open or in memory.

    Args:
        path: the file; its tensors are float32 or float16.
        rows: indices into them.
        targets: float32 tensors to write to, by the name of the tensor in the file.
        places: the index in the targets of each row.

    Raises:
        ValueError: it is no safetensors file, is truncated, or lacks a tensor.
    """
    try:
        # "np" maps the file read-only; "pt" would count it as memory of the process.
        with safe_open(path, framework="np") as file:
            for name, target in targets.items():
                source = file.get_slice(name)
                if source.get_dtype() not in FLOATS:
                    raise ValueError(f"{name} is {source.get_dtype()}")
                values = target.numpy()
                for row, place in zip(rows, places, strict=True):
                    values[place] = source[row]
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{path} is not a shard of float32 or float16 tensors ({error}); make it again"
        ) from error
