"""Tensors for a file, where no two may share memory."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each in memory of its own: tied weights come once under each of their
    names.
    """
    taken: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        alone = tensor.detach().cpu().contiguous()
        memory = alone.untyped_storage().data_ptr()
        result[name] = alone.clone() if memory in taken else alone
        taken.add(memory)
    return result
