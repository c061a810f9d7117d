"""timm's classifiers: ``timm/resnet18``, or with the weights' tag ``timm/resnet18.a1_in1k``."""

from __future__ import annotations

from typing import Any

import timm
from timm.data.imagenet_info import infer_imagenet_subset
from torch import nn

from dynadfq.zoo.families import imagenet
from dynadfq.zoo.metadata import Metadata

IMAGENET_1K = "imagenet-1k"  # timm's name of the subset with the usual 1000 classes


def names() -> list[str]:
    """Return the names of all networks of the library, without and with tags."""
    return [*timm.list_models(), *timm.list_pretrained()]


def build(name: str, in_channels: int, num_classes: int, pretrained: bool) -> nn.Module:
    """Return a classifier, with published weights or newly initialized."""
    model: nn.Module = timm.create_model(
        name, pretrained=pretrained, in_chans=in_channels, num_classes=num_classes
    )
    return model


def metadata(name: str) -> Metadata:
    """Return what timm's ``pretrained_cfg`` holds of the weights."""
    known: Any = timm.get_pretrained_cfg(name)
    if known is None:
        return Metadata("timm's metadata")
    origin = f"timm's metadata ({known.tag or 'untagged'})"
    if known.crop_mode != "center":
        origin += f"; timm's own crop, {known.crop_mode}, is not the center"
    num_classes = known.num_classes or None
    same_classes = infer_imagenet_subset(known) == IMAGENET_1K
    return Metadata(
        origin=origin,
        input_shape=tuple(known.input_size),
        num_classes=num_classes,
        mean=tuple(known.mean),
        std=tuple(known.std),
        resize=int(known.input_size[1] / known.crop_pct),
        interpolation=known.interpolation,
        class_names=imagenet.class_names(num_classes) if same_classes else None,
    )


def instructions(name: str) -> str:
    """Return what to download; the hub's client keeps it in a cache of its own."""
    known: Any = timm.get_pretrained_cfg(name)
    if known is None or not (known.hf_hub_id or known.url):
        return f"timm does not publish weights of {name}"
    if known.hf_hub_id:
        return f"Download model.safetensors of {known.hf_hub_id} on huggingface.co"
    return f"Download {known.url}"
