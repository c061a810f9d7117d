"""The classification layer of a network: where its class weights are read (DynaDFQ, Eq. 5)."""

from __future__ import annotations

from torch import Tensor, nn


def find_classifier(module: nn.Module, num_classes: int) -> nn.Linear | nn.Conv2d:
    """Return the last linear layer or 1×1 convolution with one output a class.

    Raises:
        ValueError: there is none, so that class weights cannot be read.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    for layer in reversed(layers):
        if isinstance(layer, nn.Linear) and layer.out_features == num_classes:
            return layer
        if isinstance(layer, nn.Conv2d) and layer.out_channels == num_classes and layer.kernel_size == (1, 1):
            return layer
    raise ValueError(f"the network has no linear layer or 1×1 convolution with {num_classes} outputs to classify with")


def class_weights(module: nn.Module, num_classes: int) -> Tensor:
    """Return the classifier's weight rows, (classes, features); a 1×1 convolution's trailing axes are dropped."""
    return find_classifier(module, num_classes).weight.detach().flatten(1)
