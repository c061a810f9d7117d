"""Settings of the teacher: which network it is, how it is trained, how its classes are compared."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from dynadfq.ops.config import Interpolation
from dynadfq.runtime.config import (
    LINEAGE,
    MAX_BATCH,
    MAX_CLASSES,
    MAX_COUNT,
    MAX_RATE,
    MAX_SIDE,
    PAPER,
    Config,
    setting,
)
from dynadfq.runtime.errors import shown
from dynadfq.runtime.import_path import is_import_path
from dynadfq.zoo.config import FAMILIES

RESNET = "He et al., CVPR 2016, Sec. 4.2"

Measure = Literal["dot", "cosine", "centred"]

ARCHITECTURES = (
    "a name of the form pytorchcv/…, torchvision/…, timm/… or efficientnet/…, or an import path "
    "such as my_pkg.models:build"
)


def _architecture(value: object) -> object:
    if not isinstance(value, str):
        return value
    family, _, name = value.partition("/")
    if is_import_path(value) or (family in FAMILIES and name):
        return value
    raise ValueError(f"must be {ARCHITECTURES}; got {shown(value)}")


def _different(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    repeated = [name for name, count in Counter(names or ()).items() if count > 1]
    if repeated:
        raise ValueError(
            f"must name each class differently; got {shown(repeated[0])} more than once"
        )
    return names


Architecture = Annotated[str, BeforeValidator(_architecture)]
ClassName = Annotated[str, Field(min_length=1)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
# Of pixels in 0 … 1; networks that read pixels in 0 … 255 have a deviation of 1/255.
Mean = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(ge=0.001, le=1)]


class TrainingConfig(Config):
    """SGD, with a one-cycle schedule of learning rate and Nesterov momentum (arXiv 1708.07120)."""

    epochs: int = setting(
        200, "passes over the training images", unit="epochs", source=RESNET, ge=1, le=MAX_COUNT
    )
    batch_size: int = setting(
        128, "images in a step", unit="images", source=RESNET, ge=1, le=MAX_BATCH
    )
    learning_rate: float = setting(
        0.1, "peak of the one-cycle learning rate of SGD", source=RESNET, gt=0, le=MAX_RATE
    )
    weight_decay: float = setting(1e-4, "weight decay", source=RESNET, ge=0, le=1)
    crop_padding: int = setting(
        4,
        "largest random shift of a training image; 0 is none",
        unit="pixels",
        source=RESNET,
        ge=0,
        le=256,
    )
    horizontal_flip: bool = setting(True, "mirror half of the training images", source=RESNET)


class TeacherConfig(TrainingConfig):
    """The frozen float classifier.

    With a checkpoint or published weights, the settings of training (from `epochs` to
    `horizontal_flip`) are not used.

    What is null from `num_classes` to `interpolation` is taken from what the library says of its
    published weights and from the data set; the stage prints what it took from where. For other
    weights the data set comes first.
    """

    architecture: Architecture = setting(
        "pytorchcv/resnet20_cifar10",
        "library and model name, or a function or class of your own that returns a network; it is "
        "called with the arguments in_channels and num_classes if it takes them. DVC does not see "
        "changes of your code: after one, run `dvc repro -f teacher`",
        source=f"{PAPER}, Sec. 4.1",
        allowed=ARCHITECTURES,
    )
    checkpoint: str | None = setting(
        None,
        "file with the teacher's weights (.safetensors or .pth); a relative path starts at the "
        "repository. DVC sees changes of files in checkpoints/; elsewhere, run "
        "`dvc repro -f teacher` after one",
        min_length=1,
    )
    pretrained: bool = setting(
        True,
        "use the library's published weights, which it downloads, or those that the function of "
        "an import path loads",
        source=f"{LINEAGE} (pytorchcv)",
    )
    num_classes: int | None = setting(
        None, "number of classes", unit="classes", ge=1, le=MAX_CLASSES
    )
    class_names: Annotated[tuple[ClassName, ...] | None, AfterValidator(_different)] = setting(
        None,
        "names of the classes, in the order of the network's outputs",
        allowed="null or a list of texts, one per class, none twice",
        strict=False,
    )
    input_shape: tuple[Side, Side, Side] | None = setting(
        None,
        "shape of an image that the network reads",
        unit="channels, pixels, pixels",
        allowed="null or a list of three whole numbers: channels, height and width",
        items="1 … 8192",
        strict=False,
    )
    mean: tuple[Mean, ...] | None = setting(
        None,
        "mean that is subtracted from pixels in 0 … 1",
        unit="pixels in 0 … 1",
        allowed="null or a list of numbers in 0 … 1, one per channel",
        items="0 … 1",
        min_length=1,
        strict=False,
    )
    std: tuple[Deviation, ...] | None = setting(
        None,
        "standard deviation that pixels are then divided by",
        unit="pixels in 0 … 1",
        allowed="null or a list of numbers in 0.001 … 1, one per channel",
        items="0.001 … 1",
        min_length=1,
        strict=False,
    )
    resize: int | None = setting(
        None,
        "length of an image's shorter side before its middle is cut out; with a data set's own "
        "size, null lets the image just cover the input",
        unit="pixels",
        ge=1,
        le=MAX_SIDE,
    )
    interpolation: Interpolation | None = setting(
        None, "how images are scaled", allowed="null or one of nearest, bilinear, bicubic"
    )


class SimilarityConfig(Config):
    """Similarity of two classes, measured on the teacher's classifier weights."""

    measure: Measure = setting(
        "dot",
        "inner product of two classes' weight rows, their cosine, or their cosine after "
        "subtracting the mean row",
        source=f"dot: {PAPER}, Eq. 5",
    )
    top: int = setting(
        5,
        "classes listed for each class in top_similar.csv, most similar first",
        unit="classes",
        ge=1,
        le=MAX_CLASSES,
    )
