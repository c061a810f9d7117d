"""Metadata about a network's inputs and classes that is known before it is built."""

from __future__ import annotations

from dataclasses import dataclass

from dynadfq.ops.config import Interpolation
from dynadfq.runtime.numbers import Shape


@dataclass(frozen=True)
class Metadata:
    """Facts about a network from one source; None is unknown."""

    origin: str  # the source as text, such as "torchvision's metadata"
    input_shape: Shape | None = None  # see ``Preprocessing``
    num_classes: int | None = None  # number of logits
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None
    interpolation: Interpolation | None = None
    class_names: tuple[str, ...] | None = None  # one per class
