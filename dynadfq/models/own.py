"""A user's own network by import path: ``my_pkg.models:build``."""

from __future__ import annotations

from inspect import Parameter, signature

from torch import nn

from dynadfq.import_path import accepted, imported

KEY = "teacher.architecture"


def build(path: str, in_channels: int, num_classes: int) -> nn.Module:
    """Call a function or class that returns a network, with ``in_channels`` and ``num_classes`` if it takes them.

    Raises:
        ImportError: it cannot be imported.
        ValueError: it needs other arguments, or returns no network.
    """
    factory = imported(path, KEY)
    if not callable(factory):
        raise ValueError(f"{KEY}: {path!r} is {type(factory).__name__}, not a function or class that returns a network")
    arguments = accepted(factory, in_channels=in_channels, num_classes=num_classes)
    needed = [
        name
        for name, parameter in signature(factory).parameters.items()
        if parameter.default is Parameter.empty
        and parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        and name not in arguments
    ]
    if needed:
        raise ValueError(
            f"{KEY}: {path!r} needs {', '.join(needed)}, and is called with in_channels and num_classes at most; "
            "write a function that takes no more and fills in the rest"
        )
    network = factory(**arguments)
    if not isinstance(network, nn.Module):
        raise ValueError(f"{KEY}: {path!r} returned {type(network).__name__}, not a torch.nn.Module")
    return network
