"""pytorchcv's classifiers: ``pytorchcv/resnet20_cifar10``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dynadfq.zoo.metadata import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Metadata,
    WeightsFile,
    imagenet_names,
    resize_for,
)

PACKAGES = {"pytorchcv": "pytorchcv"}
# What the published weights were trained with; osmr/imgclsmob:
# pytorch/datasets/cifar10_cls_dataset.py, which CIFAR-100 and SVHN share, and
# imagenet1k_cls_dataset.py (bilinear, crop 0.875).
SMALL_MEAN, SMALL_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
SMALL = ("_cifar10", "_cifar100", "_svhn")


def names() -> list[str]:
    """All models of the library."""
    return sorted(_provider()._models)


def build(name: str, in_channels: int, num_classes: int, pretrained: bool) -> nn.Module:
    """A classifier, with published weights or newly initialized.

    Raises:
        ValueError: the network is not made for so many classes: the CIFAR networks are for 10 or
            100.
    """
    try:
        model: nn.Module = _provider().get_model(
            name, in_channels=in_channels, num_classes=num_classes, pretrained=pretrained
        )
    except AssertionError as error:
        raise ValueError(
            f"teacher.architecture: pytorchcv/{name} cannot be built for {num_classes} classes, {in_channels} channels"
        ) from error
    features = getattr(model, "features", None)
    if isinstance(getattr(features, "final_pool", None), nn.AvgPool2d):
        # A fixed 8×8 window fits 32×32 images alone; averaging the whole map is the same there and
        # fits every size.
        features.final_pool = nn.AdaptiveAvgPool2d(1)  # type: ignore[union-attr]
    return model


def metadata(name: str) -> Metadata:
    """What the network itself says, and the statistics of the data set that its name ends with."""
    with torch.device("meta"):
        network = _provider().get_model(name)
    size, classes = getattr(network, "in_size", None), getattr(network, "num_classes", None)
    if size is None or classes is None:
        return Metadata("pytorchcv's metadata")
    small = name.endswith(SMALL)
    return Metadata(
        "pytorchcv's metadata",
        (3, *size),
        classes,
        SMALL_MEAN if small else IMAGENET_MEAN,
        SMALL_STD if small else IMAGENET_STD,
        None if small else resize_for(max(size)),
        "bilinear",
        imagenet_names(classes),
    )


def weights_file(name: str) -> WeightsFile:
    """A zipped file of a release, and where pytorchcv keeps it unpacked."""
    store = importlib.import_module("pytorchcv.models.common.model_store")
    if name not in store.get_model_metainfo_dict():
        return WeightsFile(f"weights of {name}, which pytorchcv does not publish", "")
    error, sha1, release = store.get_model_name_suffix_data(name)
    file = f"{name}-{error}-{sha1[:8]}.pth"
    url = f"{store.imgclsmob_repo_url}/releases/download/{release}/{file}.zip"
    return WeightsFile(f"and unzip {url}", str(Path("~/.torch/models") / file))


def _provider() -> Any:
    return importlib.import_module("pytorchcv.model_provider")
