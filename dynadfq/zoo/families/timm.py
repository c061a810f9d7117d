"""timm's classifiers: ``timm/resnet18``, or one set of weights by its tag,
``timm/resnet18.a1_in1k``.
"""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from dynadfq.zoo.metadata import Metadata, WeightsFile, imagenet_names

PACKAGES = {"timm": "timm"}
IMAGENET = "imagenet-1k"


def names() -> list[str]:
    """All models of the library, without tags and with them."""
    timm = importlib.import_module("timm")
    return [*timm.list_models(), *timm.list_pretrained()]


def build(name: str, in_channels: int, num_classes: int, pretrained: bool) -> nn.Module:
    """A classifier, with published weights or newly initialized."""
    timm = importlib.import_module("timm")
    model: nn.Module = timm.create_model(
        name, pretrained=pretrained, in_chans=in_channels, num_classes=num_classes
    )
    return model


def metadata(name: str) -> Metadata:
    """What timm says of the weights, in its ``pretrained_cfg``."""
    known = _configuration(name)
    if known is None:
        return Metadata("timm's metadata")
    side, classes = known.input_size[1], known.num_classes or None
    return Metadata(
        f"timm's metadata ({known.tag or 'untagged'})"
        + (
            f"; timm's own crop, {known.crop_mode}, is not the middle"
            if known.crop_mode != "center"
            else ""
        ),
        tuple(known.input_size),
        classes,
        tuple(known.mean),
        tuple(known.std),
        int(side / known.crop_pct),
        known.interpolation,
        imagenet_names(classes)
        if importlib.import_module("timm.data").infer_imagenet_subset(known) == IMAGENET
        else None,
    )


def weights_file(name: str) -> WeightsFile:
    """The file on the hub; timm looks in the cache of the hub's client, which is no single
    place.
    """
    known = _configuration(name)
    if known is None or not (known.hf_hub_id or known.url):
        return WeightsFile(f"weights of {name}, which timm does not publish", "")
    return WeightsFile(
        f"model.safetensors of {known.hf_hub_id} on huggingface.co"
        if known.hf_hub_id
        else known.url,
        "",
    )


def _configuration(name: str) -> Any:
    return importlib.import_module("timm").get_pretrained_cfg(name)
