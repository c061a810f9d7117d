from __future__ import annotations

import safetensors.torch
import torch

from dynadfq.zoo.weights import unshare


def test_tied_weights_are_written_under_each_name() -> None:
    layer = torch.nn.Linear(2, 2)
    tied = torch.nn.Sequential(layer, torch.nn.ReLU(), layer, torch.nn.BatchNorm1d(2))
    tensors = unshare(tied.state_dict())
    assert tensors.keys() == tied.state_dict().keys()
    again = safetensors.torch.load(safetensors.torch.save(tensors))
    assert all(torch.equal(again[name], value) for name, value in tied.state_dict().items())
