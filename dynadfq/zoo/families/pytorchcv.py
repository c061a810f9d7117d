"""pytorchcv's classifiers: ``pytorchcv/resnet20_cifar10``."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from math import ceil
from pathlib import Path

import torch
from pytorchcv.models.common import model_store
from torch import nn

from dynadfq.runtime.errors import InvalidArgument
from dynadfq.zoo.families import imagenet
from dynadfq.zoo.metadata import Metadata

# The published weights' normalization; osmr/imgclsmob: pytorch/datasets/cifar10_cls_dataset.py,
# which CIFAR-100 and SVHN share, and imagenet1k_cls_dataset.py (bilinear, center 0.875).
SMALL_MEAN = (0.4914, 0.4822, 0.4465)
SMALL_STD = (0.2023, 0.1994, 0.2010)
CENTER_FRACTION = 0.875  # of an ImageNet image's shorter side: 224 of 256 pixels
PROVIDER = "pytorchcv.model_provider"
SMALL = ("_cifar10", "_cifar100", "_svhn")


@cache
def networks() -> dict[str, str]:
    """Return the module that defines each network of the library, by the network's name.

    They are read from the source of ``pytorchcv.model_provider``. To import it takes longer than
    most commands: it imports all networks and, with one of them, torchvision and torch's compiler.
    """
    source = Path(str(find_spec(PROVIDER).origin)).read_text(encoding="utf-8")  # type: ignore[union-attr]
    tree = ast.parse(source)
    modules = {
        alias.name: f"pytorchcv.{node.module}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    [table] = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Dict)
        and ast.unparse(node.targets[0]) == "_models"
    )
    return {
        ast.literal_eval(name): modules[function.id]
        for name, function in zip(table.keys, table.values, strict=True)
        if name is not None and isinstance(function, ast.Name)
    }


def names() -> list[str]:
    """Return the names of all networks of the library."""
    return sorted(networks())


def _builder(name: str) -> Callable[..., nn.Module]:
    builder: Callable[..., nn.Module] = getattr(import_module(networks()[name]), name)
    return builder


def build(name: str, in_channels: int, num_classes: int, pretrained: bool) -> nn.Module:
    """Return a classifier, with published weights or newly initialized.

    Raises:
        ValueError: the network does not exist for so many classes; CIFAR networks have 10 or 100.
    """
    try:
        model = _builder(name)(
            in_channels=in_channels, num_classes=num_classes, pretrained=pretrained
        )
    except AssertionError as error:
        raise InvalidArgument(
            "architecture",
            f"pytorchcv/{name} cannot be built for {num_classes} classes and "
            f"{in_channels} channels",
        ) from error
    features = getattr(model, "features", None)
    if isinstance(getattr(features, "final_pool", None), nn.AvgPool2d):
        # A fixed window of 8×8 only fits images of 32×32; the mean of the whole map is the same
        # there and fits every size.
        features.final_pool = nn.AdaptiveAvgPool2d(1)  # type: ignore[union-attr]
    return model


def metadata(name: str) -> Metadata:
    """Return size and classes of the network, and statistics of the data set in its name."""
    with torch.device("meta"):
        network = _builder(name)()
    size = getattr(network, "in_size", None)
    num_classes = getattr(network, "num_classes", None)
    if size is None or num_classes is None:
        return Metadata("pytorchcv's metadata")
    small = name.endswith(SMALL)
    return Metadata(
        origin="pytorchcv's metadata",
        input_shape=(3, *size),
        num_classes=num_classes,
        mean=SMALL_MEAN if small else imagenet.MEAN,
        std=SMALL_STD if small else imagenet.STD,
        resize=None if small else ceil(max(size) / CENTER_FRACTION),
        interpolation="bilinear",
        class_names=imagenet.class_names(num_classes),
    )


def instructions(name: str) -> str:
    """Return what to download, and where pytorchcv looks for it."""
    if name not in model_store.get_model_metainfo_dict():
        return f"pytorchcv does not publish weights of {name}"
    error, sha1, release = model_store.get_model_name_suffix_data(name)
    file = f"{name}-{error}-{sha1[:8]}.pth"
    url = f"{model_store.imgclsmob_repo_url}/releases/download/{release}/{file}.zip"
    return f"Download and unzip {url} to {Path('~/.torch/models') / file}"
