"""What a forward pass of the teacher leaves behind, and what is said where there is nothing to
record.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from torch import Tensor, nn

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def running_statistics(layer: BatchNorm) -> tuple[Tensor, Tensor]:
    """Running mean and variance of a BatchNorm layer that keeps them, (C,) each."""
    assert layer.running_mean is not None and layer.running_var is not None
    return layer.running_mean, layer.running_var


class Recording:
    """What one forward pass left behind.

    Args:
        batch_norms: (BatchNorm module, its input (B, C, H, W)) in execution order.
        features: (B, features) input of the classification layer.
        missing: why the network has no BatchNorm statistics, empty where it has.
    """

    def __init__(
        self,
        batch_norms: Iterable[tuple[BatchNorm, Tensor]] = (),
        features: Tensor | None = None,
        missing: str = "",
    ) -> None:
        self._batch_norms, self.features, self.missing = list(batch_norms), features, missing

    @property
    def batch_norms(self) -> list[tuple[BatchNorm, Tensor]]:
        """The BatchNorms and their inputs.

        Raises:
            ValueError: no statistics of the training data survive in the network.
        """
        if self.missing:
            methods = importlib.import_module(
                "dynadfq.methods"
            )  # at run time: a message is no dependency
            raise ValueError(
                f"the teacher has no BatchNorm statistics: {self.missing}. This method's images are made from them; "
                f"methods that need none: {methods.without_batch_norm()}"
            )
        return self._batch_norms

    def clear(self) -> None:
        """Forget the last pass."""
        self._batch_norms.clear()
        self.features = None


def with_statistics(module: nn.Module) -> tuple[list[BatchNorm], str]:
    """The BatchNorm layers of a network that keep statistics of its training data; where none does,
    why.

    >>> with_statistics(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)))
    ([], 'none of its 1 BatchNorm layers keeps running ones (track_running_stats)')
    """
    norms = [layer for layer in module.modules() if isinstance(layer, BatchNorm)]
    keeping = [
        layer for layer in norms if layer.running_mean is not None and layer.running_var is not None
    ]
    if keeping:
        return keeping, ""
    if norms:
        return (
            [],
            f"none of its {len(norms)} BatchNorm layers keeps running ones (track_running_stats)",
        )
    if synchronized := sum(isinstance(layer, nn.SyncBatchNorm) for layer in module.modules()):
        return (
            [],
            f"its {synchronized} SyncBatchNorm layers are for training on many GPUs; make them BatchNorm2d",
        )
    return [], "it has no BatchNorm layer, or they were folded into the layers before them"
