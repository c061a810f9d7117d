"""The device that tensors live on."""

from __future__ import annotations

import torch

from dynadfq.runtime import distributed


def resolve(device: str) -> torch.device:
    """``auto`` is a GPU where there is one, else the CPU; of several ranks on a machine each takes
    its own GPU.

    Raises:
        ValueError: a GPU is asked for and there is none, or one is asked for by all ranks.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device: {device} is not available on this machine; set device: auto")
    index = torch.device(device).index if device != "auto" else None
    if index is not None and index >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise ValueError(f"device: {device} is none of this machine's GPUs, cuda:0 … cuda:{last}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return (
        torch.device(device)
        if distributed.world_size() == 1 or device == "cpu"
        else _own_gpu(device)
    )


def _own_gpu(device: str) -> torch.device:
    number, gpus = distributed.local_rank(), torch.cuda.device_count()
    if device != "cuda":
        raise ValueError(
            f"device: {device} is one GPU for all processes; set device: cuda, and each takes its own"
        )
    if number >= gpus:
        raise ValueError(
            f"launch.processes: more than this machine's GPUs ({gpus}); set launch.processes: {gpus}"
        )
    return torch.device("cuda", number)
