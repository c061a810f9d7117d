"""Tensors in temporary files: the same values and strides as in memory, and no file left."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dynadfq.runtime import spill as module
from dynadfq.runtime.spill import spill, spill_concatenated

LAST = torch.channels_last
LAYOUTS = {
    "contiguous": torch.randn(5, 3, 4, 2),
    "channels last": torch.randn(5, 3, 4, 2).to(memory_format=LAST),
    "one pixel": torch.randn(5, 3, 1, 1).to(memory_format=LAST),
    "features": torch.randn(5, 6),
    "transposed": torch.randn(6, 5).t(),
    "expanded": torch.randn(1, 3, 4, 2).expand(5, 3, 4, 2),
    "strided": torch.randn(10, 3, 4, 2)[::2],
    "half": torch.randn(5, 3).half(),
}


def assert_same(ours: Tensor, expected: Tensor) -> None:
    assert ours.equal(expected)
    assert ours.stride() == expected.stride()
    assert ours.dtype == expected.dtype


@pytest.mark.parametrize("like", LAYOUTS.values(), ids=LAYOUTS)
def test_tensors_in_files_are_the_same(monkeypatch: pytest.MonkeyPatch, like: Tensor) -> None:
    parts = [like, like[:2], like[1:4]]
    expected = torch.cat(parts)
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    assert_same(spill(like, 3), like)
    whole = spill_concatenated(iter(parts), len(expected))
    assert_same(whole, expected)
    chosen = torch.tensor([3, 0, 9, 3])
    assert_same(whole[chosen], expected[chosen])


def test_small_tensors_stay_in_memory() -> None:
    batch = torch.randn(4, 3)
    assert spill(batch, 10) is batch
    assert spill(batch, module.IN_MEMORY // batch.nbytes + 1) is not batch


def test_a_full_disk_is_an_error_that_leaves_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    with pytest.raises(OSError, match="No space left on device"):
        spill(torch.randn(4, 3), 1)
    assert not list(tmp_path.glob("dynadfq-*"))
