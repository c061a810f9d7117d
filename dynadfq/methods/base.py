"""What a method answers: the parts that the shared loops put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dynadfq.losses import Objective, StudentStep, SynthesisStep, Term
from dynadfq.synthesis.labels import LabelSampler


@dataclass(frozen=True)
class ImageRecipe:
    """What an image is of, and what it is optimised towards."""

    labels: LabelSampler
    objective: Objective[SynthesisStep]


@dataclass(frozen=True)
class StudentRecipe:
    """What the student learns from an image.

    mixup_share: share of each batch, the easiest by cross-entropy, that is mixed in pairs; 0 is off.
    mixup_start: when mixing begins, as a fraction of the epochs.
    """

    terms: Sequence[Term[StudentStep]]
    mixup_share: float = 0.0
    mixup_start: float = 0.0
