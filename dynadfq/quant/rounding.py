"""How weights are rounded before fine-tuning, by name (``quantization.rounding``)."""

from __future__ import annotations

from collections.abc import Callable

from dynadfq.quant.adaround import AdaRound, adaround
from dynadfq.quant.model import Student
from dynadfq.quant.squant import squant_rounding
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher import Teacher

Rounding = Callable[[Student, Teacher, SyntheticSet, int], None]  # changes a calibrated student in place

ROUNDINGS: dict[str, tuple[Rounding, ...]] = {
    "nearest": (),  # what a student does by itself, at every forward pass
    "squant": (squant_rounding,),
    "adaround": (adaround(AdaRound()),),
}


def rounding_of(name: str) -> tuple[Rounding, ...]:
    """The preparations of a student whose weights are to be rounded so.

    >>> rounding_of("nearest")
    ()

    Raises:
        ValueError: the rounding is unknown.
    """
    if name not in ROUNDINGS:
        raise ValueError(f"quantization.rounding: {name!r} is none of {', '.join(ROUNDINGS)}")
    return ROUNDINGS[name]
