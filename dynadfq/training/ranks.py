"""Fine-tuning by several ranks: each computes its rows of every batch.

All draw the random numbers of a single process. A batch's loss is a mean over its images, so that
the mean of the ranks' gradients is the gradient of the whole batch. What is not such a mean is
exchanged: the bit-FLOPs term, the per-image losses that mixup sorts, and the images it mixes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from dynadfq.quant.model import Student
from dynadfq.runtime import distributed
from dynadfq.runtime.distributed import BatchPart
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.training.recipe import StudentRecipe


class DropoutOfPart(nn.Dropout):
    """Dropout of one rank's rows, drawn for the whole batch from torch's global stream."""

    def __init__(self, p: float, part: BatchPart) -> None:
        super().__init__(p)
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        """Return (b, …) rows of a batch of b · ranks, some elements dropped."""
        if not self.training:
            return x
        whole = torch.ones(len(x) * self.part.ranks, *x.shape[1:], dtype=x.dtype, device=x.device)
        return x * self.part.of(dropout(whole, self.p, training=True))


def require_divisible(recipe: StudentRecipe, batch_size: int) -> None:
    """Check that the ranks of this run can share a fine-tuning.

    Raises:
        ValueError: the batches cannot be divided evenly, or there is an online
            generator.
    """
    ranks = distributed.world_size()
    if recipe.trains_generator and ranks > 1:
        raise InvalidArgument(
            "online_generator",
            f"a generator is trained in one process only, and there are {ranks}; "
            f"set launch.processes to 1, or online_generator to false",
        )
    if batch_size % ranks:
        divisors = ", ".join(str(n) for n in range(1, batch_size + 1) if batch_size % n == 0)
        raise InvalidArgument(
            "batch_size",
            f"{batch_size} images cannot be divided evenly among {ranks} processes; "
            f"choose a multiple of {ranks}, or as many processes as one of {divisors}",
        )


@contextmanager
def divided(student: Student) -> Iterator[None]:
    """Draw the selector's dropout for whole batches in this block; a no-op in one process."""
    part = distributed.part()
    selector = student.selector
    if part.ranks == 1 or selector is None:
        yield
        return
    whole = selector.dropout
    selector.dropout = DropoutOfPart(whole.p, part)
    try:
        yield
    finally:
        selector.dropout = whole
