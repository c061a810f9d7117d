"""Networks without what training and compilation put around them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from dynadfq.runtime.errors import InvalidArgument

_PARALLEL = (nn.DataParallel, DistributedDataParallel, AveragedModel)


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the network inside wrappers: DataParallel, averaged weights, ``torch.compile``.

    What ``module.compile()`` set in place is taken back.

    Raises:
        InvalidArgument: it is no module, a TorchScript program, or has such a wrapper inside.
    """
    if not isinstance(module, nn.Module):
        raise InvalidArgument(
            "module", f"must be a torch.nn.Module; got an object of type {type(module).__name__}"
        )
    while (inner := _inner(module)) is not None:
        module = inner
    for name, part in module.named_modules():
        if part._compiled_call_impl is not None:
            part._compiled_call_impl = None
        what = name or "the network"
        if isinstance(part, torch.jit.ScriptModule):
            raise InvalidArgument(
                "module",
                f"{what} is a TorchScript program, whose layers cannot be replaced; give the "
                "torch.nn.Module that it was made from",
            )
        if _inner(part) is not None:
            raise InvalidArgument(
                "module", f"{what} is wrapped by {type(part).__name__}; use the module inside it"
            )
    return module


def _inner(module: nn.Module) -> nn.Module | None:
    """The module inside a wrapper; None where there is none."""
    if isinstance(module, _PARALLEL):
        return module.module
    # Its type is not imported: that loads the compiler, which takes seconds.
    if type(module).__name__ == "OptimizedModule":
        return module._orig_mod  # type: ignore[return-value]
    return None
