"""The stored similarity of a teacher's classes: a tensor, and the record that describes it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Annotated, ClassVar

import safetensors.torch
import torch
from pydantic import Field
from torch import Tensor

from dynadfq.runtime.artifact import (
    Checksum,
    DamagedArtifact,
    Record,
    Size,
    read_record,
    record_bytes,
)
from dynadfq.runtime.described_file import read_described, to_tensors, write_described
from dynadfq.teacher.config import Measure

RECORD = "similarity.json"
FILE = "similarity.safetensors"
KEY = "similarity"


class SimilarityRecord(Record):
    """``similarity.json``; ``teacher`` is the sha256 of the weights that were compared."""

    FORMAT: ClassVar[str] = "dynadfq-similarity/1"
    STAGE: ClassVar[str] = "similarity"

    measure: Measure
    classes: Annotated[int, Field(ge=1)]
    teacher: Checksum
    sha256: Checksum
    bytes: Size


def write_similarity(folder: Path, similarity: Tensor, measure: Measure, teacher: str) -> None:
    """Write ``similarity.safetensors`` and ``similarity.json``.

    Args:
        folder: where they are written.
        similarity: (classes, classes) float32.
        measure: how it was measured.
        teacher: sha256 of the teacher's weights.
    """
    data = safetensors.torch.save({KEY: similarity.contiguous()})
    facts = {
        "measure": measure,
        "classes": len(similarity),
        "teacher": teacher,
        "sha256": sha256(data).hexdigest(),
        "bytes": len(data),
    }
    write_described(folder, RECORD, record_bytes(facts, SimilarityRecord), FILE, data)


def read_similarity(folder: Path, teacher: str, num_classes: int) -> Tensor:
    """Return the (classes, classes) similarity of a teacher's classes.

    Args:
        folder: what ``write_similarity`` wrote.
        teacher: sha256 of the teacher's weights.
        num_classes: the teacher's.

    Raises:
        FileNotFoundError: it was not computed.
        DamagedArtifact: a file is not what was written, or it belongs to another teacher.
    """
    facts = read_record(folder / RECORD, SimilarityRecord)
    path = folder / FILE
    data = read_described(path, facts.sha256, facts.bytes, RECORD, facts.STAGE)
    tensors = to_tensors(data, path, facts.STAGE)
    if facts.teacher != teacher:
        raise DamagedArtifact(folder / RECORD, "belongs to another teacher", facts.STAGE)
    shape = (num_classes, num_classes)
    found = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    if found != {KEY: (torch.float32, shape)} or facts.classes != num_classes:
        raise DamagedArtifact(path, f"is not one float32 tensor of shape {shape}", facts.STAGE)
    if not torch.equal(tensors[KEY], tensors[KEY].T):
        raise DamagedArtifact(path, "is not symmetric", facts.STAGE)
    return tensors[KEY]
