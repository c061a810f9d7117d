"""``params.yaml`` as types. The defaults are the paper's CIFAR-10 experiment."""

from __future__ import annotations

from typing import Literal

from dynadfq.methods import Methods
from dynadfq.params.data_names import ALLOWED, DataName
from dynadfq.params.export import Export
from dynadfq.params.quantization import Quantization, Widths
from dynadfq.params.teacher_keys import (
    ARCHITECTURES,
    CHANNELS,
    DEVIATIONS,
    SHAPES,
    Architecture,
    Deviations,
    ImageShape,
    Means,
)
from dynadfq.runtime.config import LINEAGE, PAPER, Config, setting

TRAINING = f"{PAPER}, Sec. 4.1"
RESNET = "He et al., CVPR 2016, Sec. 4.2"


class Data(Config):
    """The labelled data set: it trains a teacher that has no checkpoint, and measures. Nothing else
    sees it.
    """

    name: DataName = setting(
        "cifar10",
        "the data set; null is none at all: what needs no labels is then measured on the synthetic images",
        source=TRAINING,
        allowed=ALLOWED,
    )
    root: str = setting(
        "data",
        "folder of the data set's files; a relative path starts at the repository; an image folder has "
        "`train/<class>/…` and `val/<class>/…`, or, to evaluate only, `<class>/…`",
        min_length=1,
    )
    classes: str | None = setting(
        None,
        "file that says which class of the teacher each folder of an image folder is: a name a line, or ImageNet's "
        "class_index.json; null goes by the teacher's class names, or by the folders' order",
        min_length=1,
    )
    image_size: int | None = setting(
        None, "side to which images are resized; null keeps the data set's own", unit="pixels", ge=8
    )


class Teacher(Config):
    """The frozen float classifier. With a checkpoint or published weights the keys from `epochs` on
    are not used.

    What is null from `num_classes` to `interpolation` is taken from what the library says of its
    published weights and from the data set; the stage says what it took from where. Weights of
    another origin follow the data set first.
    """

    architecture: Architecture = setting(
        "pytorchcv/resnet20_cifar10",
        "library and model name, or a function or class of your own that returns a network; it is called with the "
        "arguments in_channels and num_classes if it takes them. DVC does not see changes of your code: after one, "
        "`dvc repro -f teacher`",
        source=TRAINING,
        allowed=ARCHITECTURES,
    )
    checkpoint: str | None = setting(
        None,
        "file with the teacher's weights (.safetensors or .pth); a relative path starts at the repository. DVC sees "
        "changes of files in checkpoints/; elsewhere, `dvc repro -f teacher` after one",
        min_length=1,
    )
    pretrained: bool = setting(
        True,
        "take the library's published weights, which it downloads, or those that the function of an import path loads",
        source=f"{LINEAGE} (pytorchcv)",
    )
    num_classes: int | None = setting(
        None, "classes that the network tells apart", unit="classes", ge=1
    )
    input_shape: ImageShape = setting(
        None,
        "shape of an image that the network reads",
        unit="channels, pixels, pixels",
        allowed=SHAPES,
    )
    mean: Means = setting(
        None,
        "mean that is subtracted from pixels in 0 … 1",
        unit="pixels in 0 … 1",
        allowed=CHANNELS,
    )
    std: Deviations = setting(
        None,
        "standard deviation that pixels are then divided by",
        unit="pixels in 0 … 1",
        allowed=DEVIATIONS,
    )
    resize: int | None = setting(
        None,
        "length of an image's shorter side before its middle is cut out; with a data set's own size, null lets the "
        "image just cover the input",
        unit="pixels",
        ge=1,
    )
    interpolation: Literal["nearest", "bilinear", "bicubic"] | None = setting(
        None, "how images are scaled", allowed="null or one of nearest, bilinear, bicubic"
    )
    epochs: int = setting(
        200, "passes over the training images", unit="epochs", source=RESNET, ge=1
    )
    batch_size: int = setting(128, "images in a step", unit="images", source=RESNET, ge=1)
    learning_rate: float = setting(
        0.1,
        "peak of the one-cycle learning rate of SGD with Nesterov momentum",
        source=RESNET,
        gt=0,
    )
    momentum: float = setting(0.9, "Nesterov momentum", source=RESNET, ge=0, le=1)
    weight_decay: float = setting(1e-4, "weight decay", source=RESNET, ge=0)
    crop_padding: int = setting(
        4, "largest random shift of a training image; 0 is none", unit="pixels", source=RESNET, ge=0
    )
    horizontal_flip: bool = setting(True, "mirror half of the training images", source=RESNET)


class Similarity(Config):
    """How alike two classes are, read from the teacher's classifier weights."""

    measure: Literal["dot", "cosine", "centred"] = setting(
        "dot",
        "inner product of two classes' weight rows, their cosine, or their cosine after subtracting the mean row",
        source=f"dot: {PAPER}, Eq. 5",
    )
    top: int = setting(
        5,
        "classes listed for each class in top_similar.csv, most similar first",
        unit="classes",
        ge=1,
    )


class Synthesis(Config):
    """How the synthetic images are optimized; what they are optimized for is the method's part."""

    num_images: int = setting(5120, "images to make", unit="images", source=TRAINING, ge=1)
    batch_size: int = setting(
        64, "images optimized together, kept as one shard", unit="images", source=TRAINING, ge=1
    )
    iterations: int = setting(
        4000,
        "steps of Adam on each batch, or of a generator's first training",
        unit="steps",
        source=TRAINING,
        ge=1,
    )
    learning_rate: float = setting(0.5, "initial learning rate of Adam", source=TRAINING, gt=0)
    decay: float = setting(
        0.1,
        "factor on the learning rate when the loss has stopped decreasing",
        source=TRAINING,
        gt=0,
        le=1,
    )
    patience: int = setting(
        100, "steps without a lower loss before a decay", unit="steps", source=TRAINING, ge=1
    )
    min_learning_rate: float = setting(
        1e-4, "the learning rate decays no further", source="ZeroQ, released code", ge=0
    )
    storage: Literal["float32", "float16"] = setting(
        "float32",
        "number type in which the images are kept; float16 takes half the space and rounds the pixels",
    )


class Finetune(Config):
    """How the student is trained on the synthetic images: SGD with Nesterov momentum."""

    epochs: int = setting(
        400, "length of the training", unit="epochs", source=f"{TRAINING} (CIFAR)", ge=1
    )
    steps_per_epoch: int = setting(
        200,
        "steps that count as one epoch, however many images there are",
        unit="steps",
        source=f"{LINEAGE}; the paper does not say",
        ge=1,
    )
    batch_size: int = setting(
        256, "images in a step", unit="images", source=f"{TRAINING} (CIFAR)", ge=1
    )
    learning_rate: float = setting(
        1e-5, "initial learning rate of the weights", source=f"{TRAINING} (CIFAR)", gt=0
    )
    decay: float = setting(
        0.1,
        "factor on every learning rate after each `decay_every` epochs",
        source=TRAINING,
        gt=0,
        le=1,
    )
    decay_every: int = setting(
        100, "epochs between decays", unit="epochs", source=f"{TRAINING} (CIFAR)", ge=1
    )
    momentum: float = setting(0.9, "Nesterov momentum", source=LINEAGE, ge=0, le=1)
    weight_decay: float = setting(1e-4, "weight decay of the weights", source=LINEAGE, ge=0)
    calibration_images: int = setting(
        1024, "synthetic images that set the activation ranges before training", unit="images", ge=1
    )
    crop_scale: float = setting(
        0.5,
        "smallest area of a random resized crop; 1 is off",
        unit="fraction of the image",
        source=LINEAGE,
        gt=0,
        le=1,
    )
    horizontal_flip: bool = setting(True, "mirror half of the images", source=LINEAGE)


class Evaluation(Config):
    """What is measured on the data set's test images."""

    batch_size: int = setting(
        256, "images in a forward pass; no result depends on it", unit="images", ge=1
    )
    test_images: int | None = setting(
        None,
        "test images that are measured, evenly spread over the set; null is all of them",
        unit="images",
        ge=1,
    )
    control_repeats: int = setting(
        5,
        "random reassignments of the chosen widths to images in the control",
        unit="repeats",
        ge=1,
    )
    budgets: int = setting(
        9,
        "points on the curve of accuracy against cost: the dynamic student at budgets from its cheapest to its "
        "dearest; 0 is none",
        unit="budgets",
        ge=0,
    )
    sensitivity_bits: Widths = setting(
        (2, 3, 4, 5, 6, 7, 8),
        "uniform widths at which predictions are compared with the teacher's; [] is none",
        unit="bits",
        allowed="a list of whole numbers in 2 … 8, ascending",
        items="2 … 8",
        strict=False,
    )


class Report(Config):
    """What the report shows."""

    title: str = setting(
        "dynadfq: CIFAR-10, ResNet-20", "heading of reports/index.html", min_length=1
    )
    grid_images: int = setting(32, "synthetic images in a grid", unit="images", ge=1)


class Launch(Config):
    """How the work is divided on this machine. No stage declares these keys: a change re-runs
    nothing.
    """

    processes: int = setting(
        1,
        "processes that share synthesis, fine-tuning and evaluation, one a GPU; `docs/scaling.md` has several machines",
        unit="processes",
        ge=1,
    )


class Params(Config):
    """Everything an experiment can vary."""

    seed: int = setting(0, "the one source of randomness: the same seed gives the same files", ge=0)
    device: str = setting(
        "auto",
        "where tensors live; auto is a GPU where there is one",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        allowed="one of auto, cpu, cuda, cuda:N",
    )
    precision: Literal["float32", "tf32", "bfloat16"] = setting(
        "float32",
        "what convolutions and linear layers multiply with while images are made and students learn; tf32 needs a GPU; "
        "evaluation is in float32",
    )
    data: Data = Data()
    teacher: Teacher = Teacher()
    similarity: Similarity = Similarity()
    synthesis: Synthesis = Synthesis()
    method: Methods = Methods()
    quantization: Quantization = Quantization()
    finetune: Finetune = Finetune()
    evaluation: Evaluation = Evaluation()
    export: Export = Export()
    report: Report = Report()
    launch: Launch = Launch()
