"""Architectures by name, ``torchvision/resnet18``, or by the import path of a user's own,
``my_pkg.models:build``.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Protocol

from torch import nn

from dynadfq.runtime.import_path import called, is_import_path
from dynadfq.zoo.families import efficientnet, pytorchcv, timm, torchvision
from dynadfq.zoo.metadata import Metadata, WeightsFile


class Family(Protocol):
    """A library of architectures."""

    PACKAGES: dict[str, str]  # what has to be imported, and what installs it

    def names(self) -> list[str]:
        """All models of the library."""

    def build(self, name: str, in_channels: int, num_classes: int, pretrained: bool) -> nn.Module:
        """A float classifier, with published weights or newly initialized."""

    def metadata(self, name: str) -> Metadata:
        """What the library knows of its published weights; nothing is downloaded."""

    def weights_file(self, name: str) -> WeightsFile:
        """Where the published weights come from and are kept."""


FAMILIES: dict[str, Family] = {
    "pytorchcv": pytorchcv,
    "torchvision": torchvision,
    "timm": timm,
    "efficientnet": efficientnet,
}


def build(
    architecture: str, in_channels: int = 3, num_classes: int = 10, pretrained: bool = False
) -> nn.Module:
    """Return a float classifier for (B, in_channels, H, W) images; an import path's own weights are
    kept.

    Raises:
        ValueError: the name is neither an import path nor ``family/model`` with a known family and
            model.
        ImportError: the family's package or the user's module cannot be imported.
        FileNotFoundError: published weights cannot be downloaded; the message says which file to
            put where.
    """
    if is_import_path(architecture):
        return _build_own(architecture, in_channels, num_classes)
    family, name = _found(architecture)
    if not pretrained:
        return family.build(name, in_channels, num_classes, pretrained=False)
    try:
        return family.build(name, in_channels, num_classes, pretrained=True)
    except (
        Exception
    ) as error:  # each library's client fails in its own ways: URLError, requests', the hub's, …
        if isinstance(error, (ImportError, ValueError)) and not isinstance(error, OSError):
            raise  # from the number of classes or a package, not from a download
        raise FileNotFoundError(_missing(architecture, family.weights_file(name), error)) from error


def metadata(architecture: str) -> Metadata | None:
    """What the library knows of an architecture's published weights; None of a user's own network.

    Raises:
        ValueError: as ``build``.
        ImportError: as ``build``.
    """
    if is_import_path(architecture):
        return None
    family, name = _found(architecture)
    return family.metadata(name)


def source_of_weights(architecture: str, published: bool) -> str:
    """Where the weights of a network come from that no checkpoint was loaded into, in words."""
    if is_import_path(architecture):
        return f"weights as {architecture} returns them"
    return "pretrained weights" if published else "random weights"


def _found(architecture: str) -> tuple[Family, str]:
    family, _, name = architecture.partition("/")
    if family not in FAMILIES or not name:
        raise ValueError(
            f"teacher.architecture: {architecture!r} is not <family>/<model>; families: {', '.join(FAMILIES)}; "
            f"for example pytorchcv/resnet20_cifar10, or my_pkg.models:build for a network of your own"
        )
    for package, distribution in FAMILIES[family].PACKAGES.items():
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(
                f"teacher.architecture: {architecture!r} needs the package {package}: pip install {distribution}"
            ) from error
    known = FAMILIES[family].names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"teacher.architecture: {family} has no model {name!r}{hint}")
    return FAMILIES[family], name


def _missing(architecture: str, file: WeightsFile, error: Exception) -> str:
    there = f"put it at {file.place}, or " if file.place else ""
    return (
        f"teacher.pretrained: the weights of {architecture} are not on disk and could not be downloaded "
        f"({type(error).__name__}: {error}). Fetch {file.source}, where there is a network; {there}"
        "name the file in teacher.checkpoint"
    )


def _build_own(path: str, in_channels: int, num_classes: int) -> nn.Module:
    """Call a function or class that returns a network, with ``in_channels`` and ``num_classes`` if
    it takes them.

    Raises:
        ImportError: it cannot be imported.
        ValueError: it needs other arguments, or returns no network.
    """
    network = called(
        path, "teacher.architecture", "a network", in_channels=in_channels, num_classes=num_classes
    )
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"teacher.architecture: {path!r} returned {type(network).__name__}, not a torch.nn.Module"
        )
    return network
