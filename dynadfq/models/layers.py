"""Which modules are layers whose weights can be quantized: `nn.Conv2d`, `nn.Linear`, and what computes the same."""

from __future__ import annotations

from typing import Literal

from torch import nn

LayerKind = Literal["conv", "linear"]


def layer_kind(module: nn.Module) -> LayerKind | None:
    """The kind of a quantizable layer, None for any other module.

    A subclass with a forward of its own (weight standardisation, dynamic padding) computes something else, which
    replacing it by a quantized layer would lose: it counts as float.

    >>> layer_kind(nn.Conv2d(3, 8, 3)), layer_kind(nn.Linear(4, 2)), layer_kind(nn.ConvTranspose2d(3, 8, 3))
    ('conv', 'linear', None)
    """
    if _computes_like(module, nn.Conv2d):
        return "conv"
    return "linear" if _computes_like(module, nn.Linear) else None


def _computes_like(module: nn.Module, base: type[nn.Module]) -> bool:
    methods = ("forward", "_conv_forward")
    same = (getattr(type(module), name, None) is getattr(base, name, None) for name in methods)
    return isinstance(module, base) and all(same)
