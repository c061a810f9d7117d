"""Activation ranges without images: what the teacher's BatchNorms say of each site (DFQ, arXiv
1906.04721, Sec. 5).

A channel behind a BatchNorm lies within β ± n|γ|, with n = 6 nearly always; a site's range is the
union over its channels, after its activation. Behind additions, means and variances of the branches
are added; other tensors are followed as models/propagate.py says. BatchNorms may be in place or
folded into the layers before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import fx

from dynadfq.graph.gaussian import Gaussian
from dynadfq.graph.normalize import normalize
from dynadfq.graph.propagate import propagate
from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.transforms import FoldedTeacher


@dataclass(frozen=True)
class BNRanges:
    """A preparation that sets every site's range from BatchNorm statistics; images are not looked
    at.

    sigmas: n, standard deviations around the mean that a channel's range covers.
    """

    sigmas: float = 6.0

    @torch.no_grad()
    def __call__(
        self, student: Student, teacher: Teacher, images: SyntheticSet | None = None, seed: int = 0
    ) -> None:
        """Set ``low`` and ``high`` of each site; ``teacher`` is the network that was quantized.

        Raises:
            ValueError: no BatchNorm is upstream of a site.
        """
        network = quantized_network(student, teacher)
        found = propagate(network, teacher.input_shape, layer_gaussians(teacher), self.sigmas)
        described = student.cost.trace.sites(student.scheme.placement)
        for site, of_site in zip(student.sites, described, strict=True):
            low, high = found[of_site.node].low.min(), found[of_site.node].high.max()
            if not (low + high).isfinite():
                raise ValueError(
                    f"{of_site.name}: no BatchNorm statistics reach this site, so they give it no range; take images: "
                    "method.dfq.student.ranges: images, or method.squant.student.range_rule: noise_sigma"
                )
            site.low.copy_(low.clamp(max=0))
            site.high.copy_(high.clamp(min=0))


def quantized_network(student: Student, teacher: Teacher) -> fx.GraphModule:
    """The float network that a student was made of, normalized: its nodes have the names of the
    student's trace.

    Raises:
        ValueError: the teacher is not what was quantized: one of the two is folded.
    """
    folded = isinstance(teacher, FoldedTeacher)
    if student.scheme.folded != folded:
        raise ValueError(
            f"the student's network is {'folded' if student.scheme.folded else 'not folded'} and the teacher's is "
            f"{'folded' if folded else 'not'}; pass the network that was quantized"
        )
    return normalize(teacher.module, torch.zeros(1, *teacher.input_shape, device=teacher.device))


def layer_gaussians(teacher: Teacher) -> Mapping[str, Gaussian]:
    """Output distributions of the layers into which BatchNorms were folded; none where they are in
    place.
    """
    return teacher.folded.gaussians if isinstance(teacher, FoldedTeacher) else {}
