"""Real data: the student is fine-tuned on labelled training images. This is not data-free.

It is the row that the literature's tables call "real data" (as in IntraQ, CVPR 2022,
arXiv 2111.09136): an upper bound for synthetic images under the same student and the same steps. No
other method reads labelled images, and this one only after `images.data` names them, so that
``params.yaml`` and ``dvc.lock`` say so. How many it takes is `synthesis.num_images`; no pixel is
changed (`synthesis.storage: float16` rounds them), and of that section only these three are used:
number, shard size and storage.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dynadfq.methods.base import ImagesConfig, Method, MethodContext
from dynadfq.methods.student import LabelledStudent
from dynadfq.runtime.config import setting
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.synthesis.config import PixelOptimizerConfig

if TYPE_CHECKING:
    import torch

    from dynadfq.data.decoded import LabelledFiles
    from dynadfq.data.labelled import LabelledSet
    from dynadfq.runtime.progress import Progress
    from dynadfq.runtime.resume import Scratch
    from dynadfq.runtime.untracked import Untracked
    from dynadfq.synthesis.dataset import Batch
    from dynadfq.synthesis.source import Shard
    from dynadfq.teacher.teacher import Teacher


class LabelledImages:
    """A source that takes shards from a data set; of image files, only what it takes is decoded."""

    preparation_steps = 0
    steps = 0
    sequential = True  # a shard begins where the one before it ended

    def __init__(
        self, teacher: Teacher, images: LabelledSet | LabelledFiles, class_balanced: bool
    ) -> None:
        import torch

        self.teacher = teacher
        self.images = images
        self.class_balanced = class_balanced
        self.order = torch.arange(len(images))
        self.taken = 0

    def prepare(self, seed: int, scratch: Scratch, progress: Progress) -> Mapping[str, bytes]:
        """Draw the order of the images; there are no files."""
        from dynadfq.data.labelled import drawn
        from dynadfq.runtime.seeding import generator

        self.order = drawn(self.images.labels, self.class_balanced, generator(seed, "real data"))
        return {}

    def make(self, count: int, rng: torch.Generator, progress: Progress) -> Shard:
        """Return the next ``count`` images, normalized, with their labels.

        Raises:
            ValueError: there are no more.
        """
        import torch
        from torch.nn.functional import one_hot

        from dynadfq.losses.objective import soft_cross_entropy
        from dynadfq.synthesis.source import Shard

        chosen = self.order[self.taken : self.taken + count]
        if len(chosen) < count:
            raise InvalidArgument(
                "num_images", f"there are only {len(self.images)} training images; ask for no more"
            )
        images = self.images.images(chosen)
        soft_labels = one_hot(self.images.labels[chosen], self.teacher.num_classes).float()
        with torch.no_grad():
            logits = self.teacher(images.to(self.teacher.device)).cpu()
        loss = float(soft_cross_entropy(logits, soft_labels).mean())
        return Shard(images, soft_labels, logits, {"total": loss, "class": loss}, of_labels=True)

    def remember(self, batch: Batch) -> None:
        """Count the images of a finished shard as taken."""
        self.taken += len(batch.images)


@dataclass(frozen=True)
class LabelledRecipe:
    """The data set whose images are taken."""

    data: str
    root: Path
    classes: Path | None
    fingerprint: str | None
    class_balanced: bool

    def untracked(self) -> Untracked | None:
        """Return the files of the data set that DVC does not follow."""
        from dynadfq.data.untracked import untracked

        return untracked(self.data, self.root, self.classes)

    def source(self, teacher: Teacher, optimizer: PixelOptimizerConfig) -> LabelledImages:
        """Return the data set's training images in the teacher's size.

        Raises:
            ValueError: its files have another fingerprint.
        """
        # Imported here: torchvision takes two seconds, and every stage reads all methods' settings.
        from dynadfq.data.loading import open_labelled
        from dynadfq.runtime.distributed import from_first

        found = None if self.fingerprint is None else from_first(self.untracked)
        if found is not None:
            found.require(self.fingerprint)
        images = open_labelled(
            self.data,
            self.root,
            True,
            teacher.preprocessing,
            class_names=teacher.class_names,
            class_file=self.classes,
        )
        return LabelledImages(teacher, images, self.class_balanced)


class Images(ImagesConfig):
    """The labelled images; `synthesis.num_images` says how many."""

    data: str | None = setting(
        None,
        "the labelled data set that is read, the same as `data.name`; null reads none",
        min_length=1,
    )
    root: str = setting(
        "data",
        "folder of its files, the same as `data.root`; a relative path starts at the repository",
        min_length=1,
    )
    classes: str | None = setting(
        None, "which class each folder is, the same as `data.classes`", min_length=1
    )
    fingerprint: str | None = setting(
        None, "what its files must have, the same as `data.fingerprint`", min_length=1
    )
    class_balanced: bool = setting(
        False, "take images of each class in turn; false takes them at random"
    )

    def recipe(self, context: MethodContext) -> LabelledRecipe:
        """Return a recipe of labelled training images.

        Raises:
            ValueError: no data set is named.
        """
        if self.data is None:
            raise InvalidArgument(
                "data",
                "none is given, so that no labelled data is read; give the name of a data set",
            )
        return self._labelled(self.data)

    def untracked(self) -> Untracked | None:
        """Return the data set's files, unless `fingerprint` says which they are."""
        if self.data is None or self.fingerprint is not None:
            return None
        return self._labelled(self.data).untracked()

    def _labelled(self, data: str) -> LabelledRecipe:
        repository = Path(os.environ.get("DVC_ROOT", "."))
        return LabelledRecipe(
            data,
            repository / self.root,
            repository / self.classes if self.classes else None,
            self.fingerprint,
            self.class_balanced,
        )


class RealData(Method):
    """Fine-tuning on labelled images, which is not data-free: `images` names the data set."""

    title: ClassVar[str] = "real data"
    data_free: ClassVar[bool] = False
    optimizes_images: ClassVar[bool] = False
    without_batch_norm: ClassVar[Mapping[str, str]] = {}

    images: Images = Images()
    student: LabelledStudent = LabelledStudent()
