"""The memory that an experiment needs at least, estimated before anything asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import prod
from pathlib import Path

from dynadfq.data.config import SHAPES
from dynadfq.methods import METHODS
from dynadfq.params.sections import Params

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
FLOAT32 = 4  # bytes
OPTIMIZED = 4  # arrays of an optimized batch: pixels, their gradient, two moments of Adam


def total_memory() -> int | None:
    """Return the bytes of memory that this process may use; None where that is unknown."""
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):  # not on every system
        limits = []
    if CGROUP_LIMIT.exists() and (text := CGROUP_LIMIT.read_text().strip()).isdigit():
        limits.append(int(text))
    return min(limits, default=None)


def image_shape(params: Params) -> tuple[int, int, int] | None:
    """Return the shape of an image that the network reads, where the parameters tell it."""
    known = params.teacher.input_shape
    if known is None and params.data.name in SHAPES and not params.teacher.pretrained:
        known = SHAPES[params.data.name]
    side = params.data.image_size
    if known is None or side is None or params.teacher.input_shape is not None:
        return known
    return known[0], side, side


def needs(params: Params) -> Iterator[tuple[str, int, int]]:
    """Yield each key that sizes an array of images, its value, and the images held at once."""
    synthesis = params.synthesis
    shard = min(synthesis.batch_size, synthesis.num_images)
    method = METHODS[params.method.name]
    optimized = method.optimizes_images and not method.trains_generator and synthesis.iterations > 0
    yield "synthesis.batch_size", synthesis.batch_size, shard * (OPTIMIZED if optimized else 1)
    yield "finetune.batch_size", params.finetune.batch_size, params.finetune.batch_size
    for name in ("generator_batch_size", "slack_images"):
        count = getattr(params.method.images, name, 0)
        yield f"method.images.{name}", count, count


def too_large(params: Params, available: int | None) -> Iterator[str]:
    """Yield a line for each key that asks for more than the available bytes of memory."""
    shape = image_shape(params)
    if shape is None or available is None:
        return
    for key, value, images in needs(params):
        needed = images * prod(shape) * FLOAT32
        if needed > available:
            yield (
                f"{key}: images of {' × '.join(map(str, shape))} need at least "
                f"{needed / 1e9:.1f} GB, and this machine has {available / 1e9:.1f} GB of memory; "
                f"write a smaller number; got {value}"
            )
