"""The content of ``manifest.json``: what each shard of a synthetic data set holds."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from dynadfq.ops.config import Precision
from dynadfq.runtime.artifact import Checksum, Record, Size
from dynadfq.runtime.config import Config
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.synthesis.config import Storage

MANIFEST = "manifest.json"

FileName = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]  # in the set's own folder
AtLeastOne = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class ShardNote(Config):
    """A shard: its file, its images, and the last losses of their optimization."""

    file: FileName
    bytes: Size
    sha256: Checksum
    seed: int
    num_images: AtLeastOne
    iterations: Count | None = None  # spent on them; None for images of a generator or a data set
    losses: dict[str, float]
    one_hot_images: Count  # images made for one class
    one_hot_recognized: Count  # those of them that the teacher assigns to it


class Manifest(Record):
    """``manifest.json``; ``files`` has the sha256 of the set's other files."""

    FORMAT: ClassVar[str] = "dynadfq-images/1"
    STAGE: ClassVar[str] = "synthesize"

    batch_size: AtLeastOne
    num_images: AtLeastOne
    seed: int
    storage: Storage
    precision: Precision | None = None  # in which the images were made
    shards: Annotated[tuple[ShardNote, ...], Field(min_length=1)]
    files: dict[FileName, Checksum]

    @model_validator(mode="after")
    def _counts_fit(self) -> Manifest:
        held = sum(shard.num_images for shard in self.shards)
        if held != self.num_images:
            raise InvalidArgument(
                "num_images", f"{self.num_images} images, but the shards hold {held}"
            )
        if any(shard.num_images != self.batch_size for shard in self.shards[:-1]):
            raise InvalidArgument("batch_size", f"{self.batch_size} is not the size of each shard")
        names = [*(shard.file for shard in self.shards), *self.files]
        if len(set(names)) < len(names):
            raise InvalidArgument("shards", "a file is listed twice")
        for shard in self.shards:
            if not shard.one_hot_recognized <= shard.one_hot_images <= shard.num_images:
                raise InvalidArgument("shards", f"the counts of {shard.file} do not fit")
        return self
