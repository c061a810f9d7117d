"""What the student learns from an image, and what happens to it before it learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dynadfq.losses.objective import StudentStep, Term
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.generator import GeneratorRecipe
from dynadfq.teacher.teacher import Teacher

Transform = Callable[[Teacher], Teacher]
# Changes a quantized student in place: (student, teacher, images, seed). The student is a
# dynadfq.quant.model.Student, which stays unnamed here so that images do not depend on the
# quantizer's code.
Preparation = Callable[[Any, Teacher, SyntheticSet, int], None]


@dataclass(frozen=True)
class OnlineGenerator:
    """The images' own generator learns on beside the student.

    method: whose generator it is.
    recipe: what it learns towards, from the image hyperparameters that were stored beside it, for a
    teacher.
    """

    method: str
    recipe: Callable[[Mapping[str, Any], Teacher], GeneratorRecipe]


@dataclass(frozen=True)
class StudentRecipe:
    """What the student learns from an image.

    terms: summands of its loss; none leaves the student as it was prepared.
    mixup_share: share of each batch, the easiest by cross-entropy, that is mixed in pairs; 0 is
        off.
    mixup_start: when mixing begins, as a fraction of the epochs.
    filter: what happens to the augmented images, (B, C, H, W) to the same.
    features: for a teacher, names of the modules at whose outputs student and teacher are compared,
        by what for.
    teacher_gradients: the teacher's features keep their graph, for terms that differentiate its
        prediction.
    perturbation: step of the sign of the loss's gradient by which the images are moved for a
        second, equal loss; 0 is off (HAST's sample difficulty promotion).
    perturbed_terms: summands of the loss on the moved images; None is the same ones.
    online_generator: the images' own generator learns on and makes every batch anew, neither
        augmented nor filtered; None trains on the stored images.
    ranges: sets the activation ranges; None is ``quantization.ranges``.
    transforms: changes of the float network before it is quantized, in order.
    preparations: changes of the calibrated student, in order.
    """

    terms: Sequence[Term[StudentStep]] = ()
    mixup_share: float = 0.0
    mixup_start: float = 0.0
    filter: Callable[[Tensor], Tensor] | None = None
    features: Callable[[Teacher], Mapping[str, Sequence[str]]] | None = None
    teacher_gradients: bool = False
    perturbation: float = 0.0
    perturbed_terms: Sequence[Term[StudentStep]] | None = None
    online_generator: OnlineGenerator | None = None
    ranges: Preparation | None = None
    transforms: Sequence[Transform] = ()
    preparations: Sequence[Preparation] = ()
