"""The classification layer of a network, which class weights are read from (DynaDFQ, eq. (5))."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dynadfq.runtime.errors import InvalidArgument

LISTED = 4  # layers that an error message names


def find_classifier(module: nn.Module, num_classes: int) -> nn.Linear | nn.Conv2d:
    """Return the last linear layer or 1×1 convolution with one output per class.

    Raises:
        ValueError: there is none.
    """
    candidates: list[tuple[str, int, nn.Linear | nn.Conv2d]] = []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            candidates.append((name, layer.out_features, layer))
        elif isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            candidates.append((name, layer.out_channels, layer))
    for _, outputs, layer in reversed(candidates):
        if outputs == num_classes:
            return layer
    last = ", ".join(
        f"{name or 'the network itself'} has {outputs}" for name, outputs, _ in candidates[-LISTED:]
    )
    found = f"the last of them: {last}" if last else "it has none at all"
    raise InvalidArgument(
        "num_classes",
        f"the network has no linear layer or 1×1 convolution with {num_classes} outputs; {found}",
    )


@torch.no_grad()
def require_classifier(module: nn.Module, input_shape: Sequence[int], num_classes: int) -> None:
    """Check on one image of zeros that a network returns logits of ``num_classes`` classes.

    Raises:
        ValueError: it cannot read images of this shape, or returns something else.
    """
    example = torch.zeros(1, *input_shape, device=next(module.parameters()).device)
    try:
        output = module(example)
    except RuntimeError as error:
        size = " × ".join(map(str, input_shape))
        raise InvalidArgument(
            "input_shape", f"the network cannot read {size} images ({error})"
        ) from error
    if not isinstance(output, Tensor):
        raise InvalidArgument(
            "architecture",
            f"the network returns {type(output).__name__}, not one tensor of logits; "
            "wrap it in a module that returns the logits alone",
        )
    if output.shape != (1, num_classes):
        raise InvalidArgument(
            "num_classes",
            f"the network returns {tuple(output.shape)} for one image, not {num_classes} logits",
        )


def class_weights(module: nn.Module, num_classes: int) -> Tensor:
    """Return the classifier's weight rows, (classes, features)."""
    return find_classifier(module, num_classes).weight.detach().flatten(1)
