"""How weights are rounded before fine-tuning, by name (``quantization.rounding``)."""

from __future__ import annotations

from dynadfq.ptq.adaround import AdaRound, adaround
from dynadfq.ptq.preparation import Preparation
from dynadfq.ptq.squant import squant_rounding

ROUNDINGS: dict[str, tuple[Preparation, ...]] = {
    "nearest": (),  # what a student does by itself, at every forward pass
    "squant": (squant_rounding,),
    "adaround": (adaround(AdaRound()),),
}


def rounding_of(name: str) -> tuple[Preparation, ...]:
    """The preparations of a student whose weights are to be rounded so.

    >>> rounding_of("nearest")
    ()

    Raises:
        ValueError: the rounding is unknown.
    """
    if name not in ROUNDINGS:
        raise ValueError(f"quantization.rounding: {name!r} is none of {', '.join(ROUNDINGS)}")
    return ROUNDINGS[name]
