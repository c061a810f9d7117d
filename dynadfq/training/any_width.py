"""Training for every width: each image of a batch runs at widths that are drawn, not chosen.

The images of a batch take turns: one width for all sites, each candidate equally often, and then a
width drawn for each site. The lowest and the highest are thus in every batch of M + 1 images, as
the sandwich rule asks (Yu & Huang, ICCV 2019, arXiv 1903.05134), at the cost of a single pass. All
learn from the teacher's prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dynadfq.quant.bits import BitAllocation
from dynadfq.runtime import distributed
from dynadfq.training.parts import TrainingContext


def draw_widths(images: int, sites: int, widths: Sequence[int], rng: torch.Generator) -> Tensor:
    """Return the (B, S) widths of a batch, in bits.

    Args:
        images: B.
        sites: S.
        widths: M candidates in bits.
        rng: draws whose turn is first, and the widths of sites.
    """
    candidates = torch.tensor(widths, dtype=torch.float32)
    first = torch.randint(len(widths) + 1, (), generator=rng)
    turn = (torch.arange(images) + first) % (len(widths) + 1)
    per_site = torch.randint(len(widths), (images, sites), generator=rng)
    is_uniform = turn < len(widths)
    return candidates[torch.where(is_uniform[:, None], turn[:, None], per_site)]


def drawn_allocation(
    context: TrainingContext, images: int, rng: torch.Generator
) -> BitAllocation | None:
    """Return the widths of this rank's images of a batch; None where the student chooses.

    A stream draws them with its images, so that whatever it runs the student on has the widths that
    the image is trained at.

    Args:
        context: the student, and whether widths are drawn.
        images: number of this rank's images.
        rng: the same of all ranks, which draws for the whole batch.
    """
    if not context.any_width:
        return None
    student, part = context.student, distributed.part()
    widths = student.scheme.activation_bits
    bits = draw_widths(images * part.ranks, len(student.sites), widths, rng)
    return BitAllocation(part.of(bits).to(student.device))
