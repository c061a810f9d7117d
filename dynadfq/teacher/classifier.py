"""The classification layer of a network: where its class weights are read (DynaDFQ, Eq. 5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

LISTED = 4  # layers that a message names


def find_classifier(module: nn.Module, num_classes: int) -> nn.Linear | nn.Conv2d:
    """Return the last linear layer or 1×1 convolution with one output a class.

    Raises:
        ValueError: there is none, so that class weights cannot be read.
    """
    candidates = {
        name: (layer, layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
        or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1))
    }
    for layer, outputs in reversed(candidates.values()):
        if outputs == num_classes:
            return layer
    last = ", ".join(
        f"{name or 'the network itself'} has {n}"
        for name, (_, n) in list(candidates.items())[-LISTED:]
    )
    raise ValueError(
        f"teacher.num_classes: the network has no linear layer or 1×1 convolution with {num_classes} outputs to "
        f"classify with; {f'the last of them: {last}' if last else 'it has none at all'}"
    )


@torch.no_grad()
def require_classifier(module: nn.Module, input_shape: Sequence[int], num_classes: int) -> None:
    """Check on one grey image that a network answers with logits of so many classes.

    Raises:
        ValueError: it cannot read images of this shape, or answers with something else.
    """
    example = torch.zeros(1, *input_shape, device=next(module.parameters()).device)
    size = " × ".join(map(str, input_shape))
    try:
        answer = module(example)
    except RuntimeError as error:
        raise ValueError(
            f"teacher.input_shape: the network cannot read {size} images ({error})"
        ) from error
    if not isinstance(answer, Tensor):
        raise ValueError(
            f"teacher.architecture: the network answers with {type(answer).__name__}, not one tensor of logits; wrap "
            "it in a module that returns the logits alone"
        )
    if answer.shape != (1, num_classes):
        raise ValueError(
            f"teacher.num_classes: the network answers an image with {tuple(answer.shape)}, not {num_classes} logits"
        )


def class_weights(module: nn.Module, num_classes: int) -> Tensor:
    """Return the classifier's weight rows, (classes, features); a 1×1 convolution's trailing axes
    are dropped.
    """
    return find_classifier(module, num_classes).weight.detach().flatten(1)
