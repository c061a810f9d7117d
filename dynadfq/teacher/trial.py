"""One small batch of one and of two images through a network, before any work is done with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dynadfq.ops.precision import in_float32
from dynadfq.runtime.errors import InvalidArgument, first_line
from dynadfq.runtime.source_lines import users_line
from dynadfq.teacher.classifier import ClassifierSearch
from dynadfq.teacher.tensors import require_sound_tensors

HALF = (torch.float16, torch.bfloat16)
# Functions whose results are no logits, but what logits are turned into.
PROBABILITIES = ("softmax", "sigmoid")


def try_network(module: nn.Module, input_shape: Sequence[int], num_classes: int) -> str | None:
    """Check that a network returns logits, and find the layer that they come from.

    It runs on two images of noise with a gradient and on one without. Its buffers and the global
    random streams are afterwards as they were.

    Args:
        module: a network in eval mode.
        input_shape: (C, H, W) of an image.
        num_classes: of its logits.

    Returns:
        The name of the classification layer (``ClassifierSearch``); None where there is none.

    Raises:
        InvalidArgument: its tensors are not sound (``tensors``), it has fewer than two classes,
            cannot read such images, returns something else than finite float32
            logits, computes in another precision, or lets no gradient reach the images.
    """
    if num_classes < 2:
        raise InvalidArgument(
            "num_classes", f"a classifier has at least 2 classes; got {num_classes}"
        )
    require_sound_tensors(module)
    device = next(module.parameters()).device
    noise = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0)).to(device)
    with as_it_was(module), in_float32(device):
        with torch.enable_grad(), ClassifierSearch(module, num_classes) as search:
            images = noise.clone().requires_grad_().clone()  # a network may write into its input
            observer = _Observer(device.type)
            logits = _forward(module, images, observer, input_shape)
            _require_logits(logits, 2, num_classes)
            _require_float32(module, logits, observer)
            _require_gradient(logits)
            _require_no_probabilities(logits, observer)
            classifier = search.found(logits)
        with torch.no_grad():
            alone = _forward(module, noise[:1].clone(), _Observer(device.type), input_shape)
            _require_logits(alone, 1, num_classes)
    return classifier


class _Observer(TorchFunctionMode):
    """Notes what matters of all calls of torch functions."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.autocast = False
        self.half: torch.dtype | None = None
        self.probabilities: dict[int, str] = {}  # function by the identity of its result
        self.kept: list[Tensor] = []  # so that no identity is used twice

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.autocast = self.autocast or torch.is_autocast_enabled(self.device)
            if result.dtype in HALF:
                self.half = result.dtype
            name = getattr(func, "__name__", "")
            if name in PROBABILITIES:
                self.probabilities[id(result)] = name
                self.kept.append(result)
        return result


@contextmanager
def as_it_was(module: nn.Module) -> Iterator[None]:
    """Restore buffers and the global random streams at the end of the block."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with torch.random.fork_rng():
        try:
            yield
        finally:
            with torch.no_grad():
                for name, buffer in module.named_buffers():
                    if name in buffers and not torch.equal(buffer, buffers[name]):
                        buffer.copy_(buffers[name])


def _forward(
    module: nn.Module, images: Tensor, observer: _Observer, input_shape: Sequence[int]
) -> Any:
    try:
        with observer:
            return module(images)
    except Exception as error:
        size = " × ".join(map(str, input_shape))
        line = users_line(error)
        where = f" at {line}" if line else ""
        batch = "a batch of two" if len(images) == 2 else "a single one"
        raise InvalidArgument(
            "input_shape",
            f"the network cannot read {size} images, {batch} ({first_line(error)}){where}",
        ) from error


def _require_logits(logits: object, count: int, num_classes: int) -> None:
    if not isinstance(logits, Tensor):
        raise InvalidArgument(
            "module",
            f"the network returns {type(logits).__name__}, not one tensor of logits; wrap it in a "
            "module that returns the logits alone",
        )
    shape = tuple(logits.shape)
    images = "one image" if count == 1 else "two images"
    if len(shape) == 2 and shape[0] == count and shape[1] != num_classes:
        raise InvalidArgument(
            "num_classes", f"the network returns {shape} for {images}, not {num_classes} logits"
        )
    if shape != (count, num_classes):
        raise InvalidArgument(
            "module",
            f"the network returns {shape} for {images}, not {(count, num_classes)}; "
            "let its forward end in one row of logits per image, by flatten(1) and not squeeze()",
        )
    if not bool(logits.isfinite().all()):
        raise InvalidArgument(
            "module", f"the network's logits of {images} of noise are not finite; check its weights"
        )


def _require_float32(module: nn.Module, logits: Tensor, observer: _Observer) -> None:
    name = type(module).__name__
    if observer.autocast:
        raise InvalidArgument(
            "module",
            f"{name} turns on autocast in its forward, and float32 is needed; remove it, and "
            "choose the precision by the argument precision",
        )
    dtype = observer.half or logits.dtype
    if dtype != torch.float32:
        raise InvalidArgument(
            "module",
            f"{name} computes in {str(dtype).removeprefix('torch.')}, and float32 is needed; "
            "remove the conversion from its forward",
        )


def _require_gradient(logits: Tensor) -> None:
    if not logits.requires_grad:
        raise InvalidArgument(
            "module",
            "no gradient of the logits reaches the images; remove torch.no_grad, "
            "torch.inference_mode or detach from the forward",
        )


def _require_no_probabilities(outputs: Tensor, observer: _Observer) -> None:
    function = observer.probabilities.get(id(outputs), "")
    if bool((outputs >= 0).all()) and bool(((outputs.sum(dim=1) - 1).abs() < 1e-4).all()):
        function = function or "softmax"
    if function:
        raise InvalidArgument(
            "module",
            f"the network returns probabilities, not logits; remove the {function} at its end",
        )
