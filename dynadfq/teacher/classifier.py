"""The classification layer of a network, which class weights are read from (DynaDFQ, eq. (5))."""

from __future__ import annotations

from collections import deque
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils.hooks import RemovableHandle

from dynadfq.runtime.errors import InvalidArgument

LISTED = 4  # layers that an error message names

Classifier = nn.Linear | nn.Conv2d


def find_classifier(module: nn.Module, num_classes: int) -> Classifier:
    """Return the last linear layer or 1×1 convolution with one output per class.

    Raises:
        ValueError: there is none.
    """
    candidates = _candidates(module)
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


class ClassifierSearch:
    """Finds the layer whose output a network returns, in a forward pass with gradients.

    It is the linear layer or 1×1 convolution with one output per class that is nearest to the
    logits: of an auxiliary head, or of a layer that is not called, no path leads to them.

    Args:
        module: the network.
        num_classes: number of logits.
    """

    def __init__(self, module: nn.Module, num_classes: int) -> None:
        self.layers = {
            layer: name for name, outputs, layer in _candidates(module) if outputs == num_classes
        }
        self.outputs: dict[Node, str] = {}  # layer by what computed its output
        self.handles: list[RemovableHandle] = []

    def __enter__(self) -> ClassifierSearch:
        self.handles = [layer.register_forward_hook(self._note) for layer in self.layers]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _note(self, layer: Any, _inputs: object, output: Tensor) -> None:
        if output.grad_fn is not None:
            self.outputs[output.grad_fn] = self.layers[layer]

    def found(self, logits: Tensor) -> str | None:
        """Return the layer's name; None where logits come from no such layer."""
        waiting = deque([logits.grad_fn])
        seen = set(waiting)
        while waiting:
            node = waiting.popleft()
            if node in self.outputs:
                return self.outputs[node]
            sources = [source for source, _ in node.next_functions] if node else []
            waiting += [source for source in sources if source not in seen]
            seen.update(sources)
        return None


def class_weights(module: nn.Module, num_classes: int) -> Tensor:
    """Return the weight rows of ``find_classifier``, (classes, features)."""
    return weight_rows(find_classifier(module, num_classes))


def weight_rows(classifier: Classifier) -> Tensor:
    """Return a classification layer's weight rows, (classes, features)."""
    return classifier.weight.detach().flatten(1)


def _candidates(module: nn.Module) -> list[tuple[str, int, Classifier]]:
    """Linear layers and 1×1 convolutions: name, number of outputs, and the layer."""
    found: list[tuple[str, int, Classifier]] = []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            found.append((name, layer.out_features, layer))
        elif isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            found.append((name, layer.out_channels, layer))
    return found
