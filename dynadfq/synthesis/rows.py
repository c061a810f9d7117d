"""Single rows of the tensors in a safetensors file, by plain reads: what is not asked for is never in memory.

The library maps a file or loads all of it. Pages of a mapped file stay with the process once they were touched, and a
private mapping counts as its data whether touched or not. Plain reads leave nothing behind, and are no slower.

A file is the length of its header (8 bytes, little-endian), the header (JSON), and the tensors, row-major and
little-endian (huggingface/safetensors, README, "Format").
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

DTYPES = {"F32": torch.float32, "F16": torch.float16}


class Layout(NamedTuple):
    """How a tensor lies in its file."""

    dtype: torch.dtype
    shape: tuple[int, ...]  # (rows, …)
    offset: int  # bytes before its first row


def layouts(path: Path) -> dict[str, Layout]:
    """How each tensor of a file lies in it, by name.

    Raises:
        ValueError: the file is no safetensors file, or holds numbers other than float32 and float16.
    """
    with open(path, "rb") as file:
        return _layouts(file, path)


def read_rows(path: Path, rows: Sequence[int], names: Sequence[str]) -> list[Tensor]:
    """The given rows of the tensors of these names: (len(rows), …) each, of the type in which they are stored.

    Raises:
        ValueError: as ``layouts``; or the file ends before a row does.
    """
    with open(path, "rb") as file:
        found = _layouts(file, path)
        return [_rows(file, found[name], rows, path) for name in names]


def _layouts(file: BinaryIO, path: Path) -> dict[str, Layout]:
    try:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        tensors = {name: about for name, about in header.items() if name != "__metadata__"}
        return {
            name: Layout(DTYPES[about["dtype"]], tuple(about["shape"]), 8 + length + about["data_offsets"][0])
            for name, about in tensors.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, MemoryError, OverflowError) as error:
        raise ValueError(f"{path} is not a shard of float32 or float16 tensors ({error!r}); make it again") from error


def _rows(file: BinaryIO, layout: Layout, rows: Sequence[int], path: Path) -> Tensor:
    tensor = torch.empty(len(rows), *layout.shape[1:], dtype=layout.dtype)
    as_bytes = tensor.numpy().reshape(len(rows), -1).view(np.uint8)
    for row, target in zip(rows, as_bytes, strict=True):
        file.seek(layout.offset + row * target.nbytes)
        if file.readinto(target) < target.nbytes:  # type: ignore[attr-defined]
            raise ValueError(f"{path} ends before row {row} does; make it again")
    return tensor
