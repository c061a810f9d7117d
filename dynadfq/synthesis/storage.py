"""The number type in which shards hold images: float16 takes half the space, and rounds."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from dynadfq.synthesis.config import Storage

DTYPES: dict[Storage, torch.dtype] = {"float32": torch.float32, "float16": torch.float16}


def require_known(storage: str) -> None:
    """Check a storage type that a caller named.

    Raises:
        ValueError: it is none of them.
    """
    if storage not in DTYPES:
        known = ", ".join(get_args(Storage))
        raise ValueError(f"storage: must be one of {known}; got {storage!r}")


def stored(images: Tensor, storage: Storage) -> Tensor:
    """Images, (B, C, H, W) float32, in the type in which they are kept; float16 rounds to 11
    significant bits.

    Raises:
        ValueError: a pixel is beyond the type's range.

    >>> stored(torch.tensor([1.0, 1.0004]), "float16").float()
    tensor([1., 1.])
    """
    limit, largest = torch.finfo(DTYPES[storage]).max, images.abs().amax().item()
    if largest > limit:
        raise ValueError(
            f"storage: {storage} holds pixels up to ±{limit:g}, but one is ±{largest:g}; "
            "lower the learning rate of synthesis, or store float32"
        )
    return images.to(DTYPES[storage])
