"""GZNQ, reconstructed: images that match BN statistics as a distribution.

He et al., "Generative Zero-shot Network Quantization", CVPR Workshops 2021, arXiv 2101.08430. No
code was published, and we could not read the paper's formulas: this is a reconstruction from what
others say of it, not a reproduction, and its results are not GZNQ's. Known are the statistics as a
distribution to sample from, images of classes, and an ensemble of compressed networks that asks for
hard samples. Ours are the divergence, the way targets are drawn, the networks in the ensemble, and
every number below. The student learns as in IntraQ.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from dynadfq.methods.base import ImagesConfig, Method, MethodContext
from dynadfq.methods.student import LabelledStudent
from dynadfq.runtime.config import MAX_COUNT, MAX_WEIGHT, setting

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from dynadfq.losses.objective import SynthesisStep
    from dynadfq.synthesis.pixels import ImageRecipe

OURS = "dynadfq, reconstruction"


def gaussian_divergence(
    mean: Tensor, variance: Tensor, target_mean: Tensor, target_variance: Tensor
) -> Tensor:
    """Return the KL divergence of one Gaussian from another in nats, elementwise.

    >>> import torch
    >>> zero, one = torch.tensor(0.0), torch.tensor(1.0)
    >>> gaussian_divergence(zero, one, zero, one), gaussian_divergence(one, one, zero, one)
    (tensor(0.), tensor(0.5000))
    """
    ratio = variance / target_variance
    return 0.5 * (ratio - ratio.log() + (mean - target_mean).square() / target_variance - 1)


def resampled(
    mean: Tensor, variance: Tensor, count: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return a random mean and unbiased variance of ``count`` samples of a Gaussian: (C,) twice."""
    import torch

    noise = torch.randn(mean.shape, generator=rng).to(mean)
    half = torch.full(
        mean.shape, (count - 1) / 2, dtype=torch.float64
    )  # χ² with k degrees is 2 · Γ(k / 2)
    share = (2 * torch._standard_gamma(half, generator=rng) / (count - 1)).to(mean)
    return mean + (variance / count).sqrt() * noise, variance * share


def bn_divergence(step: SynthesisStep, count: int) -> Tensor:
    """Return the divergence of the batch's statistics from drawn ones.

    The mean is over channels and layers. Both variances have the layer's own eps added.
    """
    import torch

    from dynadfq.losses.bn_statistics import batch_statistics
    from dynadfq.ops.batch_norm import running_statistics

    assert step.rng is not None, "targets are drawn from the shard's stream"
    losses = []
    for (layer, _), (mean, variance) in zip(
        step.recording.batch_norms, batch_statistics(step.recording), strict=True
    ):
        target_mean, target = resampled(*running_statistics(layer), count, step.rng)
        losses.append(
            gaussian_divergence(mean, variance + layer.eps, target_mean, target + layer.eps).mean()
        )
    return torch.stack(losses).mean()


def ensemble_loss(step: SynthesisStep, networks: list[nn.Module]) -> Tensor:
    """Return the networks' cross-entropy to the soft label, mean over networks and the batch.

    As all terms, it is computed in float32, whatever the precision of the teacher's forward pass.
    """
    import torch

    from dynadfq.losses.objective import soft_cross_entropy

    return torch.stack(
        [soft_cross_entropy(network(step.images), step.soft_labels).mean() for network in networks]
    ).mean()


class Images(ImagesConfig):
    """The objective of the images."""

    bn_weight: float = setting(
        1.0, "weight of the divergence of BN statistics", source=OURS, ge=0, le=MAX_WEIGHT
    )
    class_weight: float = setting(
        1.0, "weight of the cross-entropy to the image's class", source=OURS, ge=0, le=MAX_WEIGHT
    )
    ensemble_weight: float = setting(
        1.0,
        "weight of the compressed networks' mean cross-entropy to the class",
        source=OURS,
        ge=0,
        le=MAX_WEIGHT,
    )
    samples: int = setting(
        256,
        "n, sample size of the drawn statistics; the larger, the closer they are to the running "
        "ones",
        source=OURS,
        ge=2,
        le=MAX_COUNT,
    )
    ensemble_bits: int = setting(
        4, "bit-width of the quantized network's weights", unit="bits", source=OURS, ge=2, le=8
    )
    pruned_share: float = setting(
        0.3,
        "share of each layer's weights that the pruned network lacks",
        unit="fraction",
        source=OURS,
        ge=0,
        le=1,
    )
    rank_share: float = setting(
        0.5,
        "share of the singular values in the low-rank network",
        unit="fraction",
        source=OURS,
        gt=0,
        le=1,
    )

    def recipe(self, context: MethodContext) -> ImageRecipe:
        """Return a recipe of drawn BN statistics and the cross-entropy of teacher and ensemble."""
        from dynadfq.losses.objective import Objective, Term, image_class_term
        from dynadfq.synthesis.compressed import compressed, low_rank, pruned, rounded
        from dynadfq.synthesis.pixels import ImageRecipe

        ways = [
            partial(rounded, bits=self.ensemble_bits),
            partial(pruned, share=self.pruned_share),
            partial(low_rank, share=self.rank_share),
        ]
        networks = [compressed(context.teacher.module, way) for way in ways]
        terms = [
            Term("bn_statistics", self.bn_weight, lambda step: bn_divergence(step, self.samples)),
            image_class_term(self.class_weight),
            Term("ensemble", self.ensemble_weight, lambda step: ensemble_loss(step, networks)),
        ]
        return ImageRecipe(self.labels(context), Objective(terms))


class GZNQ(Method):
    """The reconstruction: `images` changes the synthetic images, `student` the fine-tuning."""

    title: ClassVar[str] = "GZNQ (reconstructed)"

    images: Images = Images()
    student: LabelledStudent = LabelledStudent()
