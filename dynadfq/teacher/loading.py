"""Teachers by name, by import path, or from a folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from dynadfq.ops.config import Interpolation
from dynadfq.runtime.artifact import read_record
from dynadfq.runtime.described_file import read_described, reading, to_tensors
from dynadfq.runtime.errors import InvalidArgument, shown
from dynadfq.runtime.import_path import is_import_path, require_trusted
from dynadfq.runtime.numbers import image_shape, real_numbers, whole_number
from dynadfq.teacher.class_names import texts
from dynadfq.teacher.facts import FACTS, WEIGHTS, TeacherRecord
from dynadfq.teacher.teacher import Teacher
from dynadfq.zoo import architectures
from dynadfq.zoo.config import FAMILIES
from dynadfq.zoo.metadata import Metadata
from dynadfq.zoo.teacher_metadata import TeacherMetadata, resolve
from dynadfq.zoo.weights import fit_weights, load_weights


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
    trust: Collection[str] = (),
) -> Teacher:
    """Load a teacher from a folder that ``Teacher.save`` wrote, or by architecture.

    Args:
        source: a folder, ``family/model``, or the import path of a function or class.
        checkpoint: a file of weights; None takes published ones.
        pretrained: False without a checkpoint takes random weights.
        num_classes, input_shape, mean, std, class_names, resize, interpolation: see ``Teacher``;
            None takes them from the library's metadata, and without any, mean 0 and std 1. A
            folder has its own, and its weights: with one, none of these arguments is allowed.
        trust: import paths that a folder may name as its architecture, such as
            ``my_pkg.models:build``; others are not imported.

    Raises:
        ValueError: weights do not fit, a file is altered or not safe to read, or an argument is
            missing.
        ImportError: a library or the user's module cannot be imported.
        FileNotFoundError: there is no such checkpoint, or published weights cannot be downloaded.
    """
    architecture = str(source)
    folder = Path(source)
    if os.path.lexists(folder / FACTS) or (folder.is_dir() and not _names_zoo(architecture)):
        given_too = {
            "checkpoint": checkpoint,
            "pretrained": None if pretrained else False,
            "num_classes": num_classes,
            "input_shape": input_shape,
            "mean": mean,
            "std": std,
            "class_names": class_names,
            "resize": resize,
            "interpolation": interpolation,
        }
        for name, value in given_too.items():
            if value is not None:
                raise InvalidArgument(
                    name,
                    f"{shown(value)} given, and the folder {folder} says itself what its network "
                    "is; leave it out",
                )
        return _load_folder(folder, trust)
    shape = None if input_shape is None else image_shape("input_shape", input_shape)
    given = Metadata(
        origin="as given",
        input_shape=shape,
        num_classes=None if num_classes is None else whole_number("num_classes", num_classes),
        mean=None if mean is None else real_numbers("mean", mean),
        std=None if std is None else real_numbers("std", std),
        resize=None if resize is None else whole_number("resize", resize),
        interpolation=interpolation,
        class_names=None if class_names is None else texts(class_names),
    )
    channels = shape[0] if shape else 3
    unnormalized = Metadata("pixels as they are", mean=(0.0,) * channels, std=(1.0,) * channels)
    library = architectures.metadata(architecture)
    sources = [] if library is None else [library]
    metadata = resolve(given, sources, unnormalized)
    return import_teacher(architecture, metadata, checkpoint, pretrained)


def _names_zoo(text: str) -> bool:
    return text.partition("/")[0] in FAMILIES


def import_teacher(
    architecture: str,
    metadata: TeacherMetadata,
    checkpoint: str | Path | None = None,
    pretrained: bool = True,
) -> Teacher:
    """Build a teacher's network and load its weights.

    Args:
        architecture: ``family/model`` or an import path.
        metadata: inputs and classes.
        checkpoint: a file of weights; None takes published ones.
        pretrained: False without a checkpoint takes random weights.

    Raises:
        ValueError: weights do not fit the architecture or the images' channels, or its outputs
            are not logits of ``metadata.num_classes`` classes.
        ImportError: a library or the user's module cannot be imported.
        FileNotFoundError: there is no such checkpoint, or published weights cannot be downloaded.
    """
    num_classes = metadata.num_classes
    published = pretrained and checkpoint is None
    library = architectures.metadata(architecture) if published else None
    if library and library.num_classes not in (None, num_classes):
        raise InvalidArgument(
            "num_classes",
            f"{num_classes} differs from the {library.num_classes} classes of the "
            f"published weights of {architecture}; leave it out, or set pretrained to false",
        )
    channels = metadata.input_shape[0]
    adapts = architecture.startswith("timm/")  # its first convolution, to other channels
    if library and library.input_shape and library.input_shape[0] != channels and not adapts:
        raise InvalidArgument(
            "input_shape",
            f"{list(metadata.input_shape)} has {channels} channels, and the published weights of "
            f"{architecture} read {library.input_shape[0]}; leave it out, or set pretrained to "
            "false",
        )
    module = architectures.build(architecture, channels, num_classes, published)
    if checkpoint is not None:
        load_weights(module, checkpoint)
        source = str(checkpoint)
    elif is_import_path(architecture):
        source = f"weights as {architecture} returns them"
    else:
        source = "pretrained weights" if published else "random weights"
    return Teacher(module, architecture=architecture, source=source, **metadata.arguments())


def _load_folder(folder: Path, trust: Collection[str]) -> Teacher:
    path = folder / FACTS
    facts = read_record(path, TeacherRecord)
    if facts.architecture is None:
        raise ValueError(
            f"{folder} holds a network that is in no zoo and has no import path; build it yourself "
            "and pass it to dynadfq.Teacher, with architecture='my_pkg.models:build' so that it "
            "can be built again"
        )
    require_trusted(facts.architecture, trust, path)
    weights = folder / WEIGHTS
    data = read_described(weights, facts.sha256, facts.bytes, FACTS, facts.STAGE)
    tensors = to_tensors(data, weights, facts.STAGE)
    with reading(path, facts.STAGE):
        module = architectures.build(facts.architecture, facts.input_shape[0], facts.num_classes)
    with reading(weights, facts.STAGE):
        fit_weights(module, tensors, same_types=True)
    arguments = facts.model_dump(exclude={"format", "bytes", "sha256"})
    with reading(path, facts.STAGE):
        return Teacher(module, **arguments)
