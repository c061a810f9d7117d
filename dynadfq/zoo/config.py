"""Families of networks, without torch."""

from __future__ import annotations

FAMILIES = {
    "pytorchcv": "pytorchcv",
    "torchvision": "torchvision",
    "timm": "timm",
    "efficientnet": "timm",
}
"""Names of the modules in ``dynadfq.zoo.families``, and the package that each needs."""
