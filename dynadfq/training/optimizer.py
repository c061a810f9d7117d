"""The optimizer of fine-tuning."""

from __future__ import annotations

import torch
from torch import nn

from dynadfq.quant.model import Student
from dynadfq.training.config import FinetuneConfig


def sgd(student: Student, config: FinetuneConfig, selector_learning_rate: float) -> torch.optim.SGD:
    """Return SGD with a learning rate each for the network, the ranges and the selector.

    Ranges have no weight decay.
    """
    site_parameters = [p for site in student.sites for p in site.parameters()]
    ranges = [p for p in site_parameters if p.requires_grad]
    selector: list[nn.Parameter] = list(student.selector.parameters()) if student.selector else []
    others = {id(p) for p in (*site_parameters, *selector)}
    network = [p for p in student.network.parameters() if id(p) not in others]
    decay = config.weight_decay
    groups = [
        {"params": network, "lr": config.learning_rate, "weight_decay": decay},
        {"params": ranges, "lr": config.range_learning_rate, "weight_decay": 0.0},
        {"params": selector, "lr": selector_learning_rate, "weight_decay": decay},
    ]
    filled = [group for group in groups if group["params"]]
    return torch.optim.SGD(filled, momentum=config.momentum, nesterov=True)
