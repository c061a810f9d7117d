"""Teachers by name, by import path, or from a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from dynadfq.ops.preprocess import Interpolation
from dynadfq.teacher.classifier import require_classifier
from dynadfq.teacher.teacher import Teacher
from dynadfq.zoo import architectures as zoo
from dynadfq.zoo.metadata import Metadata, Shape
from dynadfq.zoo.teacher_metadata import TeacherMetadata, resolve
from dynadfq.zoo.weights import load_weights


def load_teacher(
    source: str | Path,
    checkpoint: str | Path | None = None,
    pretrained: bool = True,
    num_classes: int | None = None,
    input_shape: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    resize: int | None = None,
    interpolation: Interpolation | None = None,
) -> Teacher:
    """Load a teacher from a folder that ``Teacher.save`` wrote, or by the name or import path of
    its network.

    Weights are those of ``checkpoint``, else the library's published ones, or random with
    ``pretrained=False``. What is None is taken from the library's metadata; without any, pixels are
    read as they are, in 0 … 1.

    Raises:
        ValueError: the weights do not fit, a file is altered or not safe to read, or a fact is
            missing.
        ImportError: a library or the user's module cannot be imported.
        FileNotFoundError: there is no such checkpoint, or published weights cannot be downloaded.
    """
    if (Path(source) / "teacher.json").exists():
        return _load_folder(Path(source))
    architecture, shape = str(source), _shape(input_shape)
    given = Metadata(
        "as given",
        shape,
        num_classes,
        tuple(mean) if mean else None,
        tuple(std) if std else None,
        resize,
        interpolation,
        tuple(class_names) if class_names else None,
    )
    library = zoo.metadata(architecture)
    channels = shape[0] if shape else 3
    as_they_are = Metadata("pixels as they are", mean=(0.0,) * channels, std=(1.0,) * channels)
    facts = resolve(given, [one for one in (library, as_they_are) if one is not None])
    return import_teacher(architecture, facts, checkpoint, pretrained)


def import_teacher(
    architecture: str,
    facts: TeacherMetadata,
    checkpoint: str | Path | None = None,
    pretrained: bool = True,
) -> Teacher:
    """A teacher by the name or import path of its network, with weights from a checkpoint or the
    published ones.

    Raises:
        ValueError: the weights do not fit the architecture, or its answers are not logits of
            ``facts.num_classes``.
        ImportError: a library or the user's module cannot be imported.
        FileNotFoundError: there is no such checkpoint, or published weights cannot be downloaded.
    """
    published = pretrained and checkpoint is None
    library = zoo.metadata(architecture) if published else None
    if library and library.num_classes not in (None, facts.num_classes):
        raise ValueError(
            f"teacher.num_classes: {facts.num_classes} is not what the published weights of {architecture} tell apart, "
            f"{library.num_classes}; leave it out, or set teacher.pretrained: false"
        )
    module = zoo.build(architecture, facts.input_shape[0], facts.num_classes, published)
    source = zoo.source_of_weights(architecture, published)
    if checkpoint is not None:
        load_weights(module, checkpoint)
        source = str(checkpoint)
    teacher = Teacher(module, architecture=architecture, source=source, **facts.arguments())
    require_classifier(module, facts.input_shape, facts.num_classes)
    return teacher


def _shape(values: Sequence[int] | None) -> Shape | None:
    if values is None:
        return None
    channels, height, width = values
    return channels, height, width


def _load_folder(folder: Path) -> Teacher:
    card = json.loads((folder / "teacher.json").read_text())
    if card["architecture"] is None:
        raise ValueError(
            f"{folder} holds a network that is in no zoo and has no import path; build it yourself and pass it to "
            "dynadfq.Teacher, with architecture='my_pkg.models:build' so that it can be built again"
        )
    if hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() != card.pop(
        "sha256"
    ):
        raise ValueError(
            f"{folder}/model.safetensors is not the file teacher.json describes (sha256 differs); make it again"
        )
    module = zoo.build(card["architecture"], card["input_shape"][0], card["num_classes"])
    load_weights(module, folder / "model.safetensors")
    return Teacher(module, **card)
