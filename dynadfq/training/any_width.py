"""Training for every width: each image of a batch runs at widths that are drawn, not chosen.

The images of a batch take turns: one width for all sites, each candidate equally often, and then a
width drawn for each site. The lowest and the highest are thus in every batch of M + 1 images, as
the sandwich rule asks (Yu & Huang, ICCV 2019, arXiv 1903.05134), at the cost of a single pass. All
learn from the teacher's prediction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dynadfq.quant.bits import BitAllocation
from dynadfq.runtime import distributed
from dynadfq.training.parts import BatchStream, TrainingBatch


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


class DrawnWidths:
    """A stream whose batches bring their widths.

    Args:
        batches: the stream to wrap.
        sites: number of activation sites.
        widths: candidate widths in bits.
    """

    def __init__(self, batches: BatchStream, sites: int, widths: Sequence[int]) -> None:
        self.batches = batches
        self.sites = sites
        self.widths = widths

    def epoch(self, number: int, rng: torch.Generator) -> Iterator[TrainingBatch]:
        """Yield the wrapped stream's batches, each with an allocation."""
        part = distributed.part()
        for batch in self.batches.epoch(number, rng):
            count = len(batch.images) * part.ranks
            bits = part.of(draw_widths(count, self.sites, self.widths, rng))
            yield batch._replace(allocation=BitAllocation(bits.to(batch.images.device)))

    def state_dict(self) -> Mapping[str, Any]:
        """Return the wrapped stream's state."""
        return self.batches.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict``."""
        self.batches.load_state_dict(state)
