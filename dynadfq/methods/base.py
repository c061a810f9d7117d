"""The base of every method and of its images."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from dynadfq.runtime.config import Config
from dynadfq.synthesis.config import PixelOptimizerConfig

if TYPE_CHECKING:
    from torch import Tensor

    from dynadfq.runtime.untracked import Untracked
    from dynadfq.synthesis.labels import LabelSampler
    from dynadfq.synthesis.source import ImageSource
    from dynadfq.teacher.teacher import Teacher

Presets = Mapping[str, Mapping[str, Mapping[str, bool | int | float | str]]]


def beginnings(preset: str) -> tuple[str, ...]:
    """Return the presets that a preset adds to, and itself.

    >>> beginnings("imagenet-resnet18-w4")
    ('imagenet', 'imagenet-resnet18', 'imagenet-resnet18-w4')
    """
    return tuple(accumulate(preset.split("-"), "{}-{}".format))


class MethodContext(NamedTuple):
    """Inputs that a method composes the recipe of its images from."""

    teacher: Teacher
    similarity: Tensor  # (classes, classes)
    seed: int


class ImageSourceRecipe(Protocol):
    """How images are made, by optimizing pixels, by a generator, or from a data set."""

    def source(self, teacher: Teacher, optimizer: PixelOptimizerConfig) -> ImageSource:
        """Return the source of images of a teacher."""


class ImagesConfig(Config):
    """The hyperparameters of a method's images."""

    def labels(self, context: MethodContext) -> LabelSampler:
        """Return a sampler of one random class per image."""
        from dynadfq.synthesis.labels import OneHotLabels

        return OneHotLabels(context.teacher.num_classes)

    def untracked(self) -> Untracked | None:
        """Return the files that are read and whose fingerprint no setting holds; None without."""
        return None

    def recipe(self, context: MethodContext) -> ImageSourceRecipe:
        """Return how the images are made."""
        raise NotImplementedError


class Method(Config):
    """A method: the hyperparameters of its images and of its student, and facts about it.

    title: its name in reports.
    data_free: no image of a data set is read.
    optimizes_images: whether pixels or a generator are trained; False takes noise or stored images.
    trains_generator: a generator makes the images and may continue to train as an online generator.
    trains_student: False prepares the student without fine-tuning.
    without_batch_norm: settings under which the teacher needs no BatchNorm; None: it always does.
    presets: published values that differ from the defaults, by kind of data (``small``,
        ``cifar100``, ``imagenet``), network and width, and by group (``images``, ``student``).
    images: its ``recipe(context)`` says how images are made.
    student: its ``recipe()`` says how the student is prepared and trained.
    """

    title: ClassVar[str]
    data_free: ClassVar[bool] = True
    optimizes_images: ClassVar[bool] = True
    trains_generator: ClassVar[bool] = False
    trains_student: ClassVar[bool] = True
    without_batch_norm: ClassVar[Mapping[str, str] | None] = None
    presets: ClassVar[Presets] = {}

    images: ImagesConfig = ImagesConfig()
    student: Any = None

    @classmethod
    def preset(cls, name: str) -> dict[str, dict[str, Any]]:
        """Return a preset's values, those of each preset that its name begins with in turn.

        Args:
            name: of ``presets`` or longer, such as ``imagenet-resnet18-w4``; an unknown one has no
                values.

        Returns:
            By group (``images``, ``student``), the values by hyperparameter; only those that differ
            from the defaults.
        """
        merged: dict[str, dict[str, Any]] = {}
        for beginning in beginnings(name):
            for group, values in cls.presets.get(beginning, {}).items():
                merged.setdefault(group, {}).update(values)
        return merged
