"""How long and how fast a student is fine-tuned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dynadfq.quant.model import Student


@dataclass(frozen=True)
class Schedule:
    """SGD with Nesterov momentum; every rate falls by ``decay`` each ``decay_every`` epochs
    (DynaDFQ, Sec. 4.1).
    """

    epochs: int = 400
    steps_per_epoch: int = 200
    batch_size: int = 256
    learning_rate: float = 1e-5
    range_learning_rate: float = 1e-5
    selector_learning_rate: float = 1e-3
    decay: float = 0.1
    decay_every: int = 100
    momentum: float = 0.9
    weight_decay: float = 1e-4
    crop_scale: float = 0.5
    horizontal_flip: bool = True

    def optimizer(self, student: Student) -> torch.optim.SGD:
        """SGD over the network, the ranges (no weight decay) and the selector, each at its own
        rate.
        """
        return torch.optim.SGD(
            _parameter_groups(student, self), momentum=self.momentum, nesterov=True
        )


def _parameter_groups(student: Student, schedule: Schedule) -> list[dict[str, Any]]:
    ranges = [
        parameter
        for site in student.sites
        for parameter in site.parameters()
        if parameter.requires_grad
    ]
    selector: list[nn.Parameter] = list(student.selector.parameters()) if student.selector else []
    apart = {id(parameter) for site in student.sites for parameter in site.parameters()} | {
        id(p) for p in selector
    }
    network = [
        parameter for parameter in student.network.parameters() if id(parameter) not in apart
    ]
    groups = [
        {"params": network, "lr": schedule.learning_rate, "weight_decay": schedule.weight_decay},
        {"params": ranges, "lr": schedule.range_learning_rate, "weight_decay": 0.0},
        {
            "params": selector,
            "lr": schedule.selector_learning_rate,
            "weight_decay": schedule.weight_decay,
        },
    ]
    return [group for group in groups if group["params"]]
