"""DSG: diverse sample generation (Zhang et al., CVPR 2021, arXiv 2103.01049).

Images may differ from the BN statistics by a slack (SDA), and each image attends most to a layer of
its own (LSE). ``synthesis.batch_size`` a multiple of the teacher's BatchNorm layers treats layers
alike. With labels, the literature's "DSG+IL", it is ``images.class_weight: 1`` and
``student.label_weight: 1``. Differences:

- The released code reads slacks from files that it lacks; here they are measured as the paper says,
  on noise like that from which images start. At 0.9 that noise is already nearly inside; a lower
  ``slack_quantile`` asks more of it.
- Its enhancement doubles a residual before it is squared, in the first 20 images of a batch and for
    as many layers whatever the network. ``enhancement: 3`` is the same for a batch of no more
    images than layers; of a larger batch, here every image has a layer.
- Its cross-entropy counts twice (``class_weight: 2``), and its prior (``prior_weight: 0.01``) looks
    at rolled images.
- Spatial correlation inhibition, of the journal version, is left out. So is its generator: that
  code penalizes images inside the slack and enhances channels instead of images.
- The student is fine-tuned by distillation, as in the literature's tables; the paper only
calibrates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dynadfq.losses.config import SlackGranularity
from dynadfq.methods.base import Method, MethodContext
from dynadfq.methods.images import UnlabelledImages
from dynadfq.methods.student import UnlabelledStudent
from dynadfq.runtime.config import MAX_COUNT, MAX_WEIGHT, setting

if TYPE_CHECKING:
    from dynadfq.losses.slack import Slack
    from dynadfq.synthesis.pixels import ImageRecipe


class Images(UnlabelledImages):
    """The objective of DSG's images."""

    slack_quantile: float = setting(
        0.9,
        "ε, quantile of Gaussian noise's distances to the BN statistics; an image's distances "
        "within it cost nothing",
        unit="fraction",
        source="DSG, SDA",
        ge=0,
        le=1,
    )
    slack_images: int = setting(
        64,
        "images of Gaussian noise on which the distances are measured",
        unit="images",
        source="DSG's batch",
        ge=1,
        le=MAX_COUNT,
    )
    slack_granularity: SlackGranularity = setting(
        "layer",
        "one slack for all channels of a layer, or one per channel",
        source="layer: DSG's released code, which reads one number a layer",
    )
    enhancement: float = setting(
        1.0,
        "additional weight of the layer that an image is assigned to",
        source="DSG, LSE; 3 in the released code",
        ge=0,
        le=MAX_WEIGHT,
    )

    def recipe(self, context: MethodContext) -> ImageRecipe:
        """Return a recipe of enhanced slack distances; an image's own statistics have no slack."""
        from dynadfq.losses.bn_statistics import image_statistics
        from dynadfq.losses.objective import Objective, Term
        from dynadfq.losses.slack import distances_beyond, layerwise_enhanced
        from dynadfq.synthesis.pixels import ImageRecipe

        slack = self._slack(context)
        terms = [
            Term(
                "bn_statistics",
                1.0,
                lambda step: layerwise_enhanced(
                    distances_beyond(slack, step.recording), self.enhancement
                ),
            ),
            Term("image_statistics", 1.0, lambda step: image_statistics(step.images)),
            *self.optional_terms(),
        ]
        return ImageRecipe(self.labels(context), Objective(terms))

    def _slack(self, context: MethodContext) -> list[Slack]:
        import torch

        from dynadfq.losses.slack import measure_slack
        from dynadfq.runtime.seeding import generator

        shape = (self.slack_images, *context.teacher.input_shape)
        noise = torch.randn(shape, generator=generator(context.seed, "dsg", "slack")).to(
            context.teacher.device
        )
        return measure_slack(context.teacher, noise, self.slack_quantile, self.slack_granularity)


class DSG(Method):
    """DSG: `images` changes the synthetic images, `student` the fine-tuning."""

    title: ClassVar[str] = "DSG"

    images: Images = Images()
    student: UnlabelledStudent = UnlabelledStudent()
