"""Single rows of the tensors in a safetensors file, by plain reads: what is not asked for is never
in memory.

The library maps a file or loads all of it. Pages of a mapped file stay with the process once they
were touched, and a private mapping counts as its data whether touched or not. Plain reads leave
nothing behind, and are no slower.

A file is the length of its header (8 bytes, little-endian), the header (JSON), and the tensors,
row-major and little-endian (huggingface/safetensors, README, "Format").
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

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
        ValueError: the file is no safetensors file, or holds numbers other than float32 and
            float16.
    """
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        tensors = {name: about for name, about in header.items() if name != "__metadata__"}
        return {
            name: Layout(
                DTYPES[about["dtype"]], tuple(about["shape"]), 8 + length + about["data_offsets"][0]
            )
            for name, about in tensors.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, MemoryError, OverflowError) as error:
        raise ValueError(
            f"{path} is not a shard of float32 or float16 tensors ({error!r}); make it again"
        ) from error


def read_rows(
    path: Path, rows: Sequence[int], tensors: Mapping[Layout, Tensor], places: Sequence[int]
) -> None:
    """Read rows of a file's tensors to places of others, which have the same type and shape of row.

    Raises:
        ValueError: the file ends before a row does.
    """
    with open(path, "rb", buffering=0) as file:
        for layout, target in tensors.items():
            as_bytes = target.numpy().reshape(len(target), -1).view(np.uint8)
            for row, place in zip(rows, places, strict=True):
                file.seek(layout.offset + row * as_bytes.shape[1])
                if file.readinto(as_bytes[place]) < as_bytes.shape[1]:
                    raise ValueError(f"{path} ends before row {row} does; make it again")
