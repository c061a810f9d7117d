"""The device that tensors live on."""

from __future__ import annotations

import torch


def resolve(device: str) -> torch.device:
    """``auto`` is a GPU where there is one, else the CPU.

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device: {device} is not available on this machine; set device: auto")
    return torch.device(device)
