"""Checks of a network's parameters and buffers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dynadfq.ops.batch_norm import layers_with_statistics, running_statistics
from dynadfq.runtime.errors import InvalidArgument


def require_sound_tensors(module: nn.Module) -> None:
    """Check that a network is float32, on one device, and holds finite numbers.

    Buffers that are no part of the ``state_dict`` may hold infinity: masks do.

    Raises:
        InvalidArgument: names the first tensor that is not so.
    """
    parameters = dict(module.named_parameters())
    if not parameters:
        raise InvalidArgument("module", "the network has no parameters; nothing can be quantized")
    for name, parameter in parameters.items():
        _require_float32(name, parameter)
    devices = sorted({str(parameter.device) for parameter in parameters.values()})
    if len(devices) > 1:
        raise InvalidArgument(
            "module", f"its parameters are on {' and '.join(devices)}; move them to one device"
        )
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            _require_finite(name, tensor)
    names = {layer: name for name, layer in module.named_modules()}
    for layer in layers_with_statistics(module)[0]:
        if bool((running_statistics(layer)[1] < 0).any()):
            raise InvalidArgument(
                "module",
                f"{names[layer]}.running_var holds a negative number, which no variance is; load "
                "the weights again",
            )


def _require_float32(name: str, parameter: Tensor) -> None:
    if is_lazy(parameter):
        raise InvalidArgument(
            "module", f"{name} has no shape yet; run the network once, then load its weights"
        )
    if parameter.device.type == "meta":
        raise InvalidArgument("module", f"{name} is on the device meta, without values; load them")
    if parameter.dtype != torch.float32:
        raise InvalidArgument(
            "module",
            f"{name} is {str(parameter.dtype).removeprefix('torch.')}, and float32 is needed; "
            "convert the network by module.float()",
        )


def _require_finite(name: str, tensor: Tensor) -> None:
    if bool(tensor.sum().isfinite()):  # the cheapest pass over the weights
        return
    finite = tensor.isfinite()
    if not bool(finite.all()):
        what = "NaN" if bool(tensor.isnan().any()) else "infinity"
        count = int((~finite).sum())
        raise InvalidArgument(
            "module",
            f"{name} holds {what} ({count} of {tensor.numel()} numbers are not finite); load "
            "weights of a training that did not diverge",
        )
