"""The import path of a network's class, so that a saved network can be built again."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import nn

from dynadfq.runtime.import_path import is_import_path
from dynadfq.teacher.trial import as_it_was
from dynadfq.zoo import architectures

NONE = (
    "the network has no import path, so that no command can load what is saved here; give that "
    "of a function that builds it: dynadfq.Teacher(..., architecture='my_pkg.models:build')"
)
IMAGES = 2  # of noise, on which the rebuilt network is compared


def warn_without_path(architecture: str | None) -> None:
    """Warn the caller of ``save`` if the network cannot be built again from its files."""
    if architecture is None:
        warnings.warn(NONE, stacklevel=3)


def class_path(module: nn.Module, input_shape: Sequence[int], num_classes: int) -> str | None:
    """Return the import path of a network's class, such as ``my_pkg.models:Net``.

    The class is called as a saved network is built again, with ``in_channels`` and ``num_classes``
    if it takes them.

    Args:
        module: the network, in eval mode.
        input_shape: (C, H, W) of an image.
        num_classes: number of logits.

    Returns:
        None where the class cannot be imported, as that of a script or notebook (``__main__``), or
        where it makes another network: other weights' names or shapes, or other logits for noise.
    """
    kind = type(module)
    path = f"{kind.__module__}:{kind.__qualname__}"
    if kind.__module__ == "__main__" or not is_import_path(path):
        return None
    noise = torch.randn(IMAGES, *input_shape, generator=torch.Generator().manual_seed(0))
    try:
        with as_it_was(module), torch.no_grad():
            state = module.state_dict()
            device = next(iter(state.values())).device
            again = architectures.build(path, input_shape[0], num_classes).eval().to(device)
            again.load_state_dict(state)
            same = torch.equal(again(noise.to(device)), module(noise.to(device)))
    except Exception:  # the user's class may raise anything
        return None
    return path if same else None
