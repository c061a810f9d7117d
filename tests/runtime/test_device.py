from __future__ import annotations

import pytest
import torch

from dynadfq.runtime import device, distributed


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A machine with so many GPUs, on which this process is a rank of so many."""
    gpus, local_rank, ranks = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(distributed, "world_size", lambda: ranks)
    monkeypatch.setenv("LOCAL_RANK", str(local_rank))


@pytest.mark.parametrize(
    ("machine", "asked", "expected"),
    [
        ((0, 0, 1), "auto", "cpu"),
        ((2, 0, 1), "auto", "cuda"),
        ((2, 0, 1), "cuda:1", "cuda:1"),
        ((2, 1, 2), "auto", "cuda:1"),
        ((2, 1, 2), "cpu", "cpu"),
    ],
    indirect=["machine"],
)
def test_each_rank_has_a_gpu_of_its_own(machine: None, asked: str, expected: str) -> None:
    assert device.resolve(asked) == torch.device(expected)


@pytest.mark.parametrize(
    ("machine", "asked", "message"),
    [
        ((0, 0, 1), "foo", 'device: must be one of auto, cpu, cuda, cuda:N; got "foo"'),
        ((0, 0, 1), "cpu:0", 'device: must be one of auto, cpu, cuda, cuda:N; got "cpu:0"'),
        ((0, 0, 1), "cuda", "device: cuda is not available on this machine; set auto"),
        ((2, 0, 1), "cuda:2", "device: must be one of cuda:0 … cuda:1; got cuda:2"),
        ((2, 0, 2), "cuda:0", "device: cuda:0 is one GPU for all processes; set cuda"),
        ((2, 2, 3), "auto", "device: this machine has 2 GPUs, too few for its processes; start 2"),
    ],
    indirect=["machine"],
)
def test_a_gpu_that_is_not_there(machine: None, asked: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        device.resolve(asked)
