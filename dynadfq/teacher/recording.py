"""Inputs of BatchNorm layers and classifier features of one forward pass."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from dynadfq.ops.batch_norm import BatchNorm


class NoBatchNormStatistics(ValueError):
    """The teacher has no BatchNorm layer that keeps running statistics."""


class Recording:
    """BatchNorm inputs and features of one forward pass.

    Args:
        batch_norms: (BatchNorm module, its input (B, C, H, W)) in execution order.
        features: (B, features) input of the classification layer.
        missing: why the network has no BatchNorm statistics; empty if it has.
    """

    def __init__(
        self,
        batch_norms: Iterable[tuple[BatchNorm, Tensor]] = (),
        features: Tensor | None = None,
        missing: str = "",
    ) -> None:
        self._batch_norms = list(batch_norms)
        self.features = features
        self.missing = missing

    @property
    def batch_norms(self) -> list[tuple[BatchNorm, Tensor]]:
        """The BatchNorm layers and their inputs.

        Raises:
            NoBatchNormStatistics: the network has no running statistics.
        """
        if self.missing:
            raise NoBatchNormStatistics(
                f"the teacher has no BatchNorm statistics: {self.missing}. "
                "The images of this method are made from them"
            )
        return self._batch_norms

    def clear(self) -> None:
        """Forget the last pass."""
        self._batch_norms.clear()
        self.features = None
