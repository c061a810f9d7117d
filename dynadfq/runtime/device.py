"""The device of tensors."""

from __future__ import annotations

import torch

from dynadfq.runtime import distributed


def resolve(device: str) -> torch.device:
    """Return a device by name. Each rank on a machine gets its own GPU.

    Args:
        device: "auto" is a GPU where there is one, else the CPU.

    Raises:
        ValueError: the GPU does not exist, or several ranks ask for the same one.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device: {device} is not available on this machine; set device: auto")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    found = torch.device(device)
    gpus = torch.cuda.device_count()
    if found.index is not None and found.index >= gpus:
        raise ValueError(f"device: must be one of cuda:0 … cuda:{gpus - 1}; got {device}")
    if distributed.world_size() == 1 or device == "cpu":
        return found
    if device != "cuda":
        raise ValueError(
            f"device: {device} is one GPU for all processes; set device: cuda, which gives each "
            "its own"
        )
    number = distributed.local_rank()
    if number >= gpus:
        raise ValueError(
            f"launch.processes: must be at most the number of this machine's GPUs, {gpus}"
        )
    return torch.device("cuda", number)
