"""A batch, a few images at a time: several elementwise operations in a row then find their operands
in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

CHUNK = 2**16  # elements: six float32 tensors of this size fit a second-level cache of 2 MB


def chunks(x: torch.Tensor) -> Iterator[slice]:
    """Slices of consecutive images that cover (B, …) values; all at once where there is no such
    cache, as on a GPU.

    >>> list(chunks(torch.zeros(3, 40_000)))
    [slice(0, 1, None), slice(1, 2, None), slice(2, 3, None)]
    """
    images = (
        max(1, CHUNK * len(x) // max(1, x.numel())) if x.device.type == "cpu" else max(1, len(x))
    )
    for start in range(0, len(x), images):
        yield slice(start, min(start + images, len(x)))
