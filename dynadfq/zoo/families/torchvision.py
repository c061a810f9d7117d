"""torchvision's classifiers: ``torchvision/resnet18``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from torch import nn

from dynadfq.zoo.metadata import Metadata, WeightsFile

PACKAGES = {"torchvision": "torchvision"}
# Published weights of these two read images normalized to -1 … 1. torchvision lets the network
# convert from ImageNet's statistics (transform_input); here images are normalized as the weights
# want, so that a network is the same function with and without published weights. Auxiliary
# classifiers serve training alone.
INCEPTIONS = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}


def names() -> list[str]:
    """All models of the library."""
    models = importlib.import_module("torchvision.models")
    found: list[str] = models.list_models(models)
    return found


def build(name: str, in_channels: int, num_classes: int, pretrained: bool) -> nn.Module:
    """A classifier, with published weights (ImageNet) or newly initialized."""
    extra: dict[str, Any] = {"transform_input": False} if name in INCEPTIONS else {}
    if extra and not pretrained:
        extra |= {"init_weights": True, "aux_logits": False}
    weights = "DEFAULT" if pretrained else None
    models = importlib.import_module("torchvision.models")
    model: nn.Module = models.get_model(name, weights=weights, num_classes=num_classes, **extra)
    for auxiliary in INCEPTIONS.get(name, ()):
        setattr(model, auxiliary, None)
    if name in INCEPTIONS:
        model.aux_logits = False  # type: ignore[assignment]
    return model if in_channels == 3 else _with_in_channels(model, in_channels)


def metadata(name: str) -> Metadata:
    """What torchvision says of its best published weights."""
    weights = importlib.import_module("torchvision.models").get_model_weights(name).DEFAULT
    images, names = weights.transforms(), tuple(weights.meta["categories"])
    side, half = images.crop_size[0], (0.5, 0.5, 0.5)
    return Metadata(
        f"torchvision's metadata ({weights.name})",
        (3, side, side),
        len(names),
        half if name in INCEPTIONS else tuple(images.mean),
        half if name in INCEPTIONS else tuple(images.std),
        images.resize_size[0],
        images.interpolation.value,
        names,
    )


def weights_file(name: str) -> WeightsFile:
    """Where ``torch.hub`` keeps the published weights."""
    url: str = importlib.import_module("torchvision.models").get_model_weights(name).DEFAULT.url
    folder: str = importlib.import_module("torch.hub").get_dir()
    return WeightsFile(url, str(Path(folder) / "checkpoints" / Path(urlparse(url).path).name))


def _with_in_channels(model: nn.Module, in_channels: int) -> nn.Module:
    """Replace the first convolution by one for another number of input channels, newly
    initialized.
    """
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
    return model
