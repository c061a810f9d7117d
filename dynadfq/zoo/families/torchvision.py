"""torchvision's classifiers: ``torchvision/resnet18``."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn
from torchvision import models

from dynadfq.zoo.metadata import Metadata

# Published weights of these two read images normalized to -1 … 1. torchvision lets the network
# convert from ImageNet's statistics (transform_input); here images are normalized as the weights
# expect, so that a network is the same function with and without published weights. Auxiliary
# classifiers, which only help training, are removed.
INCEPTIONS = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}


def names() -> list[str]:
    """Return the names of all classifiers of the library."""
    found: list[str] = models.list_models(models)
    return found


def build(name: str, in_channels: int, num_classes: int, pretrained: bool) -> nn.Module:
    """Return a classifier, with published weights (ImageNet) or newly initialized."""
    extra: dict[str, Any] = {}
    if name in INCEPTIONS:
        extra["transform_input"] = False
        if not pretrained:
            extra["init_weights"] = True
            extra["aux_logits"] = False
    weights = "DEFAULT" if pretrained else None
    model: nn.Module = models.get_model(name, weights=weights, num_classes=num_classes, **extra)
    if name in INCEPTIONS:
        model.aux_logits = False  # type: ignore[assignment]
        for auxiliary in INCEPTIONS[name]:
            setattr(model, auxiliary, None)
    if in_channels != 3:
        _replace_first_convolution(model, in_channels)
    return model


def metadata(name: str) -> Metadata:
    """Return what torchvision knows of its best published weights."""
    weights = models.get_model_weights(name).DEFAULT
    images = weights.transforms()
    class_names = tuple(weights.meta["categories"])
    side = images.crop_size[0]
    half = (0.5, 0.5, 0.5)
    return Metadata(
        origin=f"torchvision's metadata ({weights.name})",
        input_shape=(3, side, side),
        num_classes=len(class_names),
        mean=half if name in INCEPTIONS else tuple(images.mean),
        std=half if name in INCEPTIONS else tuple(images.std),
        resize=images.resize_size[0],
        interpolation=images.interpolation.value,
        class_names=class_names,
    )


def instructions(name: str) -> str:
    """Return what to download, and where ``torch.hub`` looks for it."""
    url: str = models.get_model_weights(name).DEFAULT.url
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return f"Download {url} to {folder / Path(urlparse(url).path).name}"


def _replace_first_convolution(model: nn.Module, in_channels: int) -> None:
    """Replace the first convolution by a new one for another number of input channels."""
    name, old = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    model.set_submodule(name, new)
