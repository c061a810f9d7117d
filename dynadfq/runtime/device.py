"""The device of tensors."""

from __future__ import annotations

import re

import torch

from dynadfq.runtime import distributed
from dynadfq.runtime.config import DEVICE, DEVICES
from dynadfq.runtime.errors import InvalidArgument, shown


def resolve(device: str) -> torch.device:
    """Return a device by name. Each rank on a machine gets its own GPU.

    Args:
        device: "auto" is a GPU where there is one, else the CPU.

    Raises:
        InvalidArgument: the name is none, there is no such GPU, or too few for the ranks of this
            machine.
    """
    if not re.fullmatch(DEVICE, device):
        raise InvalidArgument("device", f"must be {DEVICES}; got {shown(device)}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InvalidArgument("device", f"{device} is not available on this machine; set auto")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    found = torch.device(device)
    gpus = torch.cuda.device_count()
    if found.index is not None and found.index >= gpus:
        raise InvalidArgument("device", f"must be one of cuda:0 … cuda:{gpus - 1}; got {device}")
    if distributed.world_size() == 1 or device == "cpu":
        return found
    if device != "cuda":
        raise InvalidArgument(
            "device", f"{device} is one GPU for all processes; set cuda, which gives each its own"
        )
    number = distributed.local_rank()
    if number >= gpus:
        raise InvalidArgument(
            "device", f"this machine has {gpus} GPUs, too few for its processes; start {gpus}"
        )
    return torch.device("cuda", number)
