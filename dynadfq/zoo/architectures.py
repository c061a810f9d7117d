"""Networks by name, ``torchvision/resnet18``, or by import path, ``my_pkg.models:build``."""

from __future__ import annotations

import difflib
import importlib
import inspect
from typing import Protocol, cast

from torch import nn

from dynadfq.ops.unwrap import unwrapped
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.import_path import call_object, import_object, is_import_path
from dynadfq.zoo.config import FAMILIES
from dynadfq.zoo.metadata import Metadata


class Family(Protocol):
    """A library of networks: the functions of each module in ``dynadfq.zoo.families``."""

    def names(self) -> list[str]:
        """Return the names of all networks of the library."""

    def build(self, name: str, in_channels: int, num_classes: int, pretrained: bool) -> nn.Module:
        """Return a float classifier, with published or random weights."""

    def metadata(self, name: str) -> Metadata:
        """Return what the library knows of its published weights, without downloading them."""

    def instructions(self, name: str) -> str:
        """Return what to download where if the library cannot, as text."""


def build(
    architecture: str, in_channels: int = 3, num_classes: int = 10, pretrained: bool = False
) -> nn.Module:
    """Return a float classifier for (B, in_channels, H, W) images.

    Args:
        architecture: ``family/model``, or the import path of a function or class that returns a
            network; it is called with ``in_channels`` and ``num_classes`` if it takes them.
        in_channels: of the images.
        num_classes: number of logits.
        pretrained: load the family's published weights. A network by import path keeps the weights
            that it has.

    Raises:
        ValueError: there is no such family or model, or the import path returns no network.
        ImportError: the family's package or the user's module cannot be imported.
        FileNotFoundError: published weights cannot be downloaded.
    """
    if is_import_path(architecture):
        return _build_from_import_path(architecture, in_channels, num_classes)
    family, name = _find(architecture)
    if not pretrained:
        return family.build(name, in_channels, num_classes, pretrained=False)
    try:
        return family.build(name, in_channels, num_classes, pretrained=True)
    except Exception as error:  # download clients raise URLError, requests' errors, the hub's, …
        if isinstance(error, (ImportError, ValueError)) and not isinstance(error, OSError):
            raise  # a wrong number of classes or a missing package, not a failed download
        raise FileNotFoundError(
            f"pretrained: the weights of {architecture} are not on disk and could not be "
            f"downloaded ({type(error).__name__}: {error}). {family.instructions(name)}, or give "
            "the file as checkpoint"
        ) from error


def metadata(architecture: str) -> Metadata | None:
    """Return what the library knows of its published weights; None for an import path.

    Raises:
        ValueError, ImportError: as ``build``.
    """
    if is_import_path(architecture):
        return None
    family, name = _find(architecture)
    return family.metadata(name)


def _build_from_import_path(path: str, in_channels: int, num_classes: int) -> nn.Module:
    target = import_object(path, "architecture")
    other_class = isinstance(target, type) and not issubclass(target, nn.Module)
    if other_class or inspect.isbuiltin(target):
        raise InvalidArgument(
            "architecture",
            f"{path!r} is {target!r}, not a torch.nn.Module or a function that returns one",
        )
    network = call_object(
        path, "architecture", "a network", in_channels=in_channels, num_classes=num_classes
    )
    if not isinstance(network, nn.Module):
        raise InvalidArgument(
            "architecture", f"{path!r} returned {type(network).__name__}, not a torch.nn.Module"
        )
    return unwrapped(network)


def _find(architecture: str) -> tuple[Family, str]:
    """The family of ``family/model``, and the model's name."""
    family, _, name = architecture.partition("/")
    if family not in FAMILIES or not name:
        raise InvalidArgument(
            "architecture",
            f"{architecture!r} is not <family>/<model>; families: "
            f"{', '.join(FAMILIES)}; for example pytorchcv/resnet20_cifar10, or "
            "my_pkg.models:build for a network of your own",
        )
    try:  # imported here: a user may lack the other families' packages
        module = cast(Family, importlib.import_module(f"dynadfq.zoo.families.{family}"))
    except ImportError as error:
        package = FAMILIES[family]
        raise ImportError(
            f"architecture: {architecture!r} needs the package {package}: pip install {package}"
        ) from error
    known = module.names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise InvalidArgument("architecture", f"{family} has no model {name!r}{hint}")
    return module, name
