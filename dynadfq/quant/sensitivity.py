"""Sensitivity of a prediction to the width of one site, measured per image.

At a calibrated student the first-order effect of a site's rounding error is no guide: the gradient
prefers any other width to the current one, finer or coarser. Therefore each site is set to each
candidate in turn, and the change of the prediction is measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import torch
from torch import Tensor

from dynadfq.quant.bits import BitAllocation
from dynadfq.quant.model import Student
from dynadfq.runtime.progress import Progress
from dynadfq.teacher.teacher import Teacher


@torch.no_grad()
def divergence(teacher_logits: Tensor, logits: Tensor) -> Tensor:
    """Return KL(teacher || student) of each image in nats, (B,), from (B, classes) logits."""
    log_p = teacher_logits.double().log_softmax(dim=1)
    log_q = logits.double().log_softmax(dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def passes(student: Student) -> int:
    """Return the number of forward passes of ``site_sensitivity`` per batch."""
    other_widths = set(student.scheme.activation_bits) - {student.scheme.target_bits}
    return 1 + student.dynamic_sites * len(other_widths)


@torch.no_grad()
def site_sensitivity(
    student: Student, teacher: Teacher, batches: Iterable[Tensor], progress: Progress
) -> Tensor:
    """Return the divergence from the teacher with one site at one candidate and the rest at target.

    Sites before the selector, whose width it does not choose, have the widest candidate.

    Args:
        student: a calibrated student with a selector.
        teacher: the float network.
        batches: (B, C, H, W) images.
        progress: counts forward passes, ``passes(student)`` per batch.

    Returns:
        (N, D, M) in nats, for the D sites whose width the selector chooses.
    """
    student.eval()
    widths = student.scheme.activation_bits
    target = student.scheme.target_bits
    dynamic = student.dynamic_sites
    fixed = len(student.sites) - dynamic  # the first sites
    rows = []
    for batch in batches:
        images = batch.to(student.device).contiguous(memory_format=teacher.memory_format)
        expected = teacher(images)

        def measure(bits: Tensor, images: Tensor = images, expected: Tensor = expected) -> Tensor:
            logits, _ = student.run(images, BitAllocation(bits))
            progress.step()
            return divergence(expected, logits).cpu()

        target_bits = torch.full((1, fixed + dynamic), float(target), device=student.device)
        target_bits[0, :fixed] = widths[-1]
        table = measure(target_bits)[:, None, None].repeat(1, dynamic, len(widths))
        for site, (column, width) in product(range(dynamic), enumerate(widths)):
            if width != target:
                bits = target_bits.clone()
                bits[0, fixed + site] = width
                table[:, site, column] = measure(bits)
        rows.append(table)
    return torch.cat(rows)
