"""Sizes that are evaluated while a network is traced: an exception leaves the tracing as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dynadfq.graph.trace import trace


class Stop(Exception):
    pass


class Stopping(nn.Module):
    """Stops where it computes values, and not where it is traced."""

    keep_float = True

    def forward(self, x: Tensor) -> Tensor:
        raise Stop


class Guarded(nn.Module):
    """Goes on without a size that cannot be evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.stopping, self.relu = Stopping(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        before = (nn.Module.__call__, nn.Module.__getattr__)
        with pytest.raises(Stop):
            self.stopping(x).shape[-1]
        assert (nn.Module.__call__, nn.Module.__getattr__) == before
        logits: Tensor = self.relu(x)
        return logits


def test_a_stop_leaves_the_tracers_patches_and_after_it_none() -> None:
    before = (nn.Module.__call__, nn.Module.__getattr__)
    graph = trace(Guarded(), torch.randn(1, 3, 4, 4)).graph
    assert [node.target for node in graph.nodes if node.op == "call_module"][-1] == "relu"
    assert (nn.Module.__call__, nn.Module.__getattr__) == before
