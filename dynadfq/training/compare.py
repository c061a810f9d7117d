"""One forward pass of a batch through student and teacher, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dynadfq.losses.objective import StudentStep
from dynadfq.ops.precision import to_float32
from dynadfq.quant.model import Student
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.batches import TrainingBatch

NOTHING: Mapping[str, Sequence[str]] = {}


@contextmanager
def watching(network: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Keep the outputs of named modules of the forward passes in this block; nothing is left
    behind.

    An output that is kept lies on the way to the logits, so that they can be differentiated with
    respect to it.
    """
    outputs: dict[str, Tensor] = {}

    def keeper(name: str) -> object:
        def keep(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            outputs[name] = wide = to_float32(output)
            return wide.clone()  # what follows may work in place

        return keep

    handles = [network.get_submodule(name).register_forward_hook(keeper(name)) for name in names]  # type: ignore[arg-type]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def compare(
    student: Student,
    teacher: Teacher,
    batch: TrainingBatch,
    features: Mapping[str, Sequence[str]] = NOTHING,
    through_teacher: bool = False,
) -> tuple[StudentStep, Tensor]:
    """Run the student, and the teacher where more of it is needed than its answer; also the (B, S)
    bits in use.

    features: modules whose outputs are kept, by what for.
    through_teacher: the teacher's part depends on the images, which require gradients,
    differentiably.
    """
    names = {name for group in features.values() for name in group}
    with watching(student.network, names) as ours:
        logits, bits = student.run(batch.images)
    teacher_logits, theirs = batch.teacher_logits, dict[str, Tensor]()
    if names or through_teacher:
        with torch.set_grad_enabled(through_teacher), watching(teacher.module, names) as theirs:
            teacher_logits = teacher(batch.images)
    both = {
        purpose: [(ours[name], theirs[name]) for name in group]
        for purpose, group in features.items()
    }
    return StudentStep(
        batch.soft_labels, logits, teacher_logits, student.bit_flops_ratio(bits), both
    ), bits
