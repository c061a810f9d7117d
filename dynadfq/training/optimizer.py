"""The optimizer of fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dynadfq.quant.model import Student
from dynadfq.training.config import FinetuneConfig


def weights(student: Student) -> list[nn.Parameter]:
    """Return the parameters of the network, without those of activation sites and the selector."""
    selector = student.selector.parameters() if student.selector else ()
    sites = (p for site in student.sites for p in site.parameters())
    others = {id(p) for p in (*sites, *selector)}
    return [p for p in student.network.parameters() if id(p) not in others]


def sgd(student: Student, config: FinetuneConfig, selector_learning_rate: float) -> torch.optim.SGD:
    """Return SGD with a learning rate each for the network, the ranges and the selector.

    Ranges have no weight decay.
    """
    ranges = [p for site in student.sites for p in site.parameters() if p.requires_grad]
    selector: list[nn.Parameter] = list(student.selector.parameters()) if student.selector else []
    decay = config.weight_decay
    groups = [
        {"params": weights(student), "lr": config.learning_rate, "weight_decay": decay},
        {"params": ranges, "lr": config.range_learning_rate, "weight_decay": 0.0},
        {"params": selector, "lr": selector_learning_rate, "weight_decay": decay},
    ]
    filled = [group for group in groups if group["params"]]
    return torch.optim.SGD(filled, momentum=config.momentum, nesterov=config.momentum > 0)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Return the () float64 norm of the gradient of all parameters together.

    In float32 the squares of large finite gradients overflow.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float64) for gradient in gradients]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm


def clip_gradient(parameters: Iterable[nn.Parameter], norm: Tensor, limit: float) -> None:
    """Scale the gradient of all parameters together down to a maximum norm.

    "On the difficulty of training recurrent neural networks", Pascanu et al., ICML 2013, Alg. 1.

    Args:
        parameters: whose gradients are scaled in place.
        norm: of their gradient.
        limit: maximum norm; 0 is none.
    """
    if limit:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
