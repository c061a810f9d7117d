"""How much a prediction suffers when one site of one image gets another width: measured, not
estimated by a gradient.

At a well-calibrated student the first-order effect of a site's rounding error is no guide: the
gradient prefers *any* other width to the one in use, finer or coarser. So each site is set to each
candidate in turn, and the change of the prediction is read off.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from dynadfq.quant.bits import BitAllocation
from dynadfq.quant.model import Student
from dynadfq.runtime.progress import Progress
from dynadfq.teacher.teacher import Teacher


@torch.no_grad()
def divergence(teacher_logits: Tensor, logits: Tensor) -> Tensor:
    """KL(teacher || student) of each image in nats: (B, classes) twice to (B,)."""
    log_p, log_q = teacher_logits.double().log_softmax(dim=1), logits.double().log_softmax(dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def passes(student: Student) -> int:
    """Forward passes of the student that ``site_sensitivity`` takes for a batch."""
    others = [
        width for width in student.scheme.activation_bits if width != student.scheme.target_bits
    ]
    return 1 + len(student.sites) * len(others)


@torch.no_grad()
def site_sensitivity(
    student: Student, teacher: Teacher, batches: Iterable[Tensor], progress: Progress
) -> Tensor:
    """Divergence from the teacher with one site at one candidate and all others at the target: (N,
    S, M) in nats.

    Batches are (B, C, H, W) images; the progress counts forward passes, ``passes(student)`` of them
    a batch.
    """
    student.eval()
    device = next(student.parameters()).device
    widths, target, sites = (
        student.scheme.activation_bits,
        student.scheme.target_bits,
        len(student.sites),
    )
    rows = []
    for batch in batches:
        images = batch.to(device).contiguous(memory_format=teacher.memory_format)
        expected = teacher(images)

        def measure(bits: Tensor, images: Tensor = images, expected: Tensor = expected) -> Tensor:
            found = divergence(expected, student.run(images, BitAllocation(bits))[0]).cpu()
            progress.step()
            return found

        everywhere = torch.full((1, sites), float(target), device=device)
        table = measure(everywhere)[:, None, None].repeat(1, sites, len(widths))
        for site in range(sites):
            for column, width in enumerate(widths):
                if width != target:
                    bits = everywhere.clone()
                    bits[0, site] = width
                    table[:, site, column] = measure(bits)
        rows.append(table)
    return torch.cat(rows)
