"""A student's files (docs/format.md): facts and tensors, written and read."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, ClassVar

import safetensors.torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor

from dynadfq.quant.config import Scheme
from dynadfq.quant.model_card import model_card
from dynadfq.quant.width_config import Bits
from dynadfq.runtime.artifact import Checksum, Record, Size, read_record, record_bytes
from dynadfq.runtime.config import Config
from dynadfq.runtime.described_file import not_finite, read_described, to_tensors, write_described
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.resume import atomic_write
from dynadfq.teacher.facts import TeacherFacts
from dynadfq.zoo.teacher_metadata import Side

FACTS = "student.json"
TENSORS = "model.safetensors"
CARD = "card.md"

Count = Annotated[int, Field(ge=0)]
Percent = Annotated[float, Field(ge=0)]


class LayerFacts(Config):
    """A quantized layer: width and shape of its weight."""

    bits: Bits
    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


class SiteFacts(Config):
    """An activation site, and the MACs that read it."""

    name: str
    macs: Count


class CostFacts(Config):
    """bit-FLOPs in percent of the float network's."""

    lowest: Percent
    target: Percent
    highest: Percent
    selector: Percent
    float_input_macs: Percent
    dynamic_sites: Count


class EarlyStoppingFacts(Config):
    """Which epoch of fine-tuning was kept (``model_card.provenance``)."""

    held_back_images: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
    kept_epoch: Annotated[int, Field(ge=1)]
    agreement: Annotated[float, Field(ge=0, le=100)]


class Provenance(Config):
    """How a student was made (``model_card.provenance``)."""

    method: str
    data_free: bool | None
    images: Count
    steps: Count
    rounding: str
    early_stopping: EarlyStoppingFacts | None = None


def _provenance(value: dict[str, Any]) -> dict[str, Any]:
    return Provenance(**value).model_dump(exclude_unset=True) if value else {}


class StudentRecord(Record):
    """``student.json``."""

    FORMAT: ClassVar[str] = "dynadfq-codes/2"
    STAGE: ClassVar[str] = "finetune"

    input_shape: tuple[Side, Side, Side]
    bytes: Size
    sha256: Checksum
    cost: CostFacts
    layers: Annotated[dict[str, LayerFacts], Field(min_length=1)]
    multiplier: float
    provenance: Annotated[dict[str, Any], AfterValidator(_provenance)]
    scheme: Scheme
    sites: tuple[SiteFacts, ...]
    teacher: TeacherFacts

    @model_validator(mode="after")
    def _one_shape(self) -> StudentRecord:
        if self.input_shape != self.teacher.input_shape:
            raise InvalidArgument("input_shape", f"{list(self.input_shape)} is not the teacher's")
        return self

    @model_validator(mode="after")
    def _has_sites(self) -> StudentRecord:
        if not self.sites and not self.scheme.float_activations:
            raise InvalidArgument("sites", "must be one or more, since activations are quantized")
        return self


def write_artifact(folder: Path, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write ``model.safetensors``, ``student.json`` and ``card.md``.

    The same facts and tensors give the same bytes.

    Raises:
        InvalidArgument: a fact is not of its type; what the folder held stays as it was.
        ArithmeticError: a number of a tensor is NaN or infinite; likewise.
    """
    if wrong := not_finite(tensors):
        raise ArithmeticError(f"{wrong} holds NaN or infinity; make the student again")
    data = safetensors.torch.save(dict(tensors))
    checksum = sha256(data).hexdigest()
    facts = {**facts, "sha256": checksum, "bytes": len(data)}
    record = record_bytes(facts, StudentRecord)
    card = model_card(StudentRecord.model_validate_json(record).model_dump(mode="json"))
    write_described(folder, FACTS, record, TENSORS, data)
    atomic_write(folder / CARD, card.encode())


def read_facts(folder: Path) -> StudentRecord:
    """Return the content of ``student.json``.

    Raises:
        FileNotFoundError: there is no student in this folder.
        DamagedArtifact: the file is damaged, lacks a key, or is of another format.
    """
    return read_record(folder / FACTS, StudentRecord)


def read_tensors(folder: Path, facts: StudentRecord) -> dict[str, Tensor]:
    """Return the tensors of ``model.safetensors``.

    Args:
        folder: a student's folder.
        facts: content of its ``student.json``.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedArtifact: it is not the file that ``student.json`` describes, or a number is NaN or
            infinite.
    """
    path = folder / TENSORS
    data = read_described(path, facts.sha256, facts.bytes, FACTS, facts.STAGE)
    return to_tensors(data, path, facts.STAGE)
