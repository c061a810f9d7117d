"""A user's own network by import path: ``my_pkg.models:build``."""

from __future__ import annotations

from torch import nn

from dynadfq.runtime.import_path import called

KEY = "teacher.architecture"


def build(path: str, in_channels: int, num_classes: int) -> nn.Module:
    """Call a function or class that returns a network, with ``in_channels`` and ``num_classes`` if
    it takes them.

    Raises:
        ImportError: it cannot be imported.
        ValueError: it needs other arguments, or returns no network.
    """
    network = called(path, KEY, "a network", in_channels=in_channels, num_classes=num_classes)
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"{KEY}: {path!r} returned {type(network).__name__}, not a torch.nn.Module"
        )
    return network
