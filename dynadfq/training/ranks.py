"""Fine-tuning by several ranks: each computes its rows of every batch, and all draw what one process would.

A batch's loss is a mean over its images, so that the mean of the ranks' gradients is the whole batch's. What is not
such a mean is exchanged: the budget's value, the per-image losses that mixup sorts, and the images it mixes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from dynadfq import distributed
from dynadfq.distributed import Part
from dynadfq.quant.model import Student


class DropoutOfPart(nn.Dropout):
    """Dropout of one rank's rows: drawn for the whole batch, from torch's global stream, as one process draws it."""

    def __init__(self, p: float, part: Part) -> None:
        super().__init__(p)
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        """(b, …) of a batch of b · ranks rows to the same."""
        if not self.training:
            return x
        whole = torch.ones(len(x) * self.part.ranks, *x.shape[1:], dtype=x.dtype, device=x.device)
        return x * self.part.of(dropout(whole, self.p, training=True))


@contextmanager
def divided(student: Student, batch_size: int) -> Iterator[None]:
    """Within this block a student sees its rank's part of batches of ``batch_size``; nothing changes in one process.

    Raises:
        ValueError: the batch cannot be divided evenly.
    """
    part, selector = distributed.part(), student.selector
    if batch_size % part.ranks:
        divisors = ", ".join(str(n) for n in range(1, batch_size + 1) if batch_size % n == 0)
        raise ValueError(
            f"finetune.batch_size: {batch_size} images cannot be divided evenly among {part.ranks} processes; choose a "
            f"multiple of {part.ranks}, or as many processes as one of {divisors}"
        )
    if part.ranks == 1 or selector is None:
        yield
        return
    whole = selector.dropout
    selector.dropout = DropoutOfPart(whole.p, part)
    try:
        yield
    finally:
        selector.dropout = whole
