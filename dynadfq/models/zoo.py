"""Architectures by name: ``pytorchcv/resnet20_cifar10``, ``torchvision/resnet18``, ``timm/…``."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from torch import nn

FAMILIES = ("pytorchcv", "torchvision", "timm")


def build(architecture: str, in_channels: int = 3, num_classes: int = 10, pretrained: bool = False) -> nn.Module:
    """Return a float classifier for (B, in_channels, H, W) images.

    Raises:
        ValueError: the name is not ``family/model`` with a known family and model.
        ImportError: the family's package is not installed.
    """
    family, _, name = architecture.partition("/")
    if family not in FAMILIES or not name:
        raise ValueError(
            f"teacher.architecture: {architecture!r} is not <family>/<model>; families: {', '.join(FAMILIES)}; "
            f"for example pytorchcv/resnet20_cifar10"
        )
    try:
        importlib.import_module(family)
    except ImportError as error:
        raise ImportError(
            f"teacher.architecture: {architecture!r} needs the package {family}: pip install {family}"
        ) from error
    builders = {"pytorchcv": _pytorchcv, "torchvision": _torchvision, "timm": _timm}
    return builders[family](name, in_channels, num_classes, pretrained)


def _unknown(family: str, name: str, known: list[str]) -> ValueError:
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    return ValueError(f"teacher.architecture: {family} has no model {name!r}{hint}")


def _pytorchcv(name: str, in_channels: int, num_classes: int, pretrained: bool) -> nn.Module:
    provider = importlib.import_module("pytorchcv.model_provider")
    known = sorted(provider._models)
    if name not in known:
        raise _unknown("pytorchcv", name, known)
    try:
        model: nn.Module = provider.get_model(
            name, in_channels=in_channels, num_classes=num_classes, pretrained=pretrained
        )
    except AssertionError as error:  # the CIFAR networks are for 10 or 100 classes
        raise ValueError(
            f"teacher.architecture: pytorchcv/{name} cannot be built for {num_classes} classes, {in_channels} channels"
        ) from error
    features = getattr(model, "features", None)
    if isinstance(getattr(features, "final_pool", None), nn.AvgPool2d):
        # A fixed 8×8 window fits 32×32 images alone; averaging the whole map is the same there and fits every size.
        features.final_pool = nn.AdaptiveAvgPool2d(1)  # type: ignore[union-attr]
    return model


def _torchvision(name: str, in_channels: int, num_classes: int, pretrained: bool) -> nn.Module:
    models = importlib.import_module("torchvision.models")
    if name not in models.list_models(models):
        raise _unknown("torchvision", name, models.list_models(models))
    extra: dict[str, Any] = {"init_weights": True} if name in ("googlenet", "inception_v3") and not pretrained else {}
    model: nn.Module = models.get_model(
        name, weights="DEFAULT" if pretrained else None, num_classes=num_classes, **extra
    )
    return model if in_channels == 3 else _with_in_channels(model, in_channels)


def _timm(name: str, in_channels: int, num_classes: int, pretrained: bool) -> nn.Module:
    timm = importlib.import_module("timm")
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    model: nn.Module = timm.create_model(name, pretrained=pretrained, in_chans=in_channels, num_classes=num_classes)
    return model


def _with_in_channels(model: nn.Module, in_channels: int) -> nn.Module:
    """Replace the first convolution by one for another number of input channels, newly initialised."""
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
