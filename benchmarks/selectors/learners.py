"""Selectors that learn from an image's activation how easy the image is for the rest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, kl_div

from benchmarks.selectors.measured import HIGHEST, LOWEST, MIDDLE, Measured

RIDGE = 30.0
EPOCHS = 30
BATCH = 64
LEARNING_RATE = 3e-3
TEMPERATURE, COOLING = 5.0, 0.956  # VideoIQ (ICCV 2021): temperature 5 · 0.956^epoch
BALANCE = 1.0  # VideoIQ: 0.5 to 1
HIDDEN = 64
WIDTHS_OF_HEAD = (32, 64)  # channels

Scores = tuple[Tensor, Tensor, int]
"""(N,) scores of the images learned on and of the others, larger for easier images; and MACs."""
Learner = Callable[[Measured, Measured, str], Scores]  # learns on the first, scores the second


def margin(logits: Tensor) -> Tensor:
    """Return the (N,) difference of the two largest probabilities of (N, classes) logits."""
    largest = logits.float().softmax(dim=1).topk(2, dim=1).values
    return largest[:, 0] - largest[:, 1]


def losses(images: Measured, decision: str) -> Tensor:
    """Return (N, 3): -log p at 3, 4 and 5 bits after a decision of the teacher's class."""
    names = (f"{decision}:{LOWEST}", str(MIDDLE), f"{decision}:{HIGHEST}")
    logits = torch.stack([images[name] for name in names], dim=1).float()
    label = images["teacher"].argmax(dim=1)[:, None, None].expand(-1, 3, 1)
    return -logits.log_softmax(dim=2).gather(2, label)[:, :, 0]


def pooled(activation: Tensor) -> Tensor:
    """Return (N, 7 C) features: mean, deviation, largest and means of quarters per channel."""
    x = activation.float()
    quarters = adaptive_avg_pool2d(x, 2).flatten(1)
    return torch.cat([x.mean((2, 3)), x.std((2, 3)), x.amax((2, 3)), quarters], dim=1)


def standardized(learn: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
    """Return both with the first one's mean 0 and deviation 1."""
    mean, deviation = learn.mean(dim=0), learn.std(dim=0) + 1e-6
    return (learn - mean) / deviation, (score - mean) / deviation


def regression(learn: Measured, score: Measured, decision: str) -> Scores:
    """Ridge regression of the student's own margin with 3 bits after the decision."""
    x, other = standardized(pooled(learn[decision]), pooled(score[decision]))
    y = margin(learn[f"{decision}:{LOWEST}"])
    weight: Tensor = torch.linalg.solve(
        x.T @ x + RIDGE * torch.eye(x.shape[1]), x.T @ (y - y.mean())
    )
    return x @ weight, other @ weight, x.shape[1]


def policy(learn: Measured, score: Measured, decision: str) -> Scores:
    """VideoIQ's order: the student is frozen, and a policy learns which width has the least loss.

    There are three allocations, so that the expected loss is exact and no Gumbel noise is needed.
    """
    x, other = standardized(pooled(learn[decision]), pooled(score[decision]))
    loss = losses(learn, decision)
    hidden = nn.Linear(x.shape[1], HIDDEN)
    network = nn.Sequential(hidden, nn.ReLU(), nn.Dropout(0.2), nn.Linear(HIDDEN, 3))

    def objective(rows: Tensor, epoch: int) -> Tensor:
        p = (network(x[rows]) / (TEMPERATURE * COOLING**epoch)).softmax(dim=1)
        balance = (p.mean(dim=0) - 1 / 3).square().sum()
        total: Tensor = (p * loss[rows]).sum(dim=1).mean() + BALANCE * balance
        return total

    fit(network, objective, len(x))
    with torch.no_grad():
        learned, scored = (logits[:, 0] - logits[:, 2] for logits in (network(x), network(other)))
    return learned, scored, HIDDEN * (x.shape[1] + 3)


def exit_head(convolutions: int) -> Learner:
    """Return a learner whose classifier behind the decision is distilled from the teacher.

    Its margin is the score. It reads the activation, pooled 2 × 2, with that many convolutions of
    stride 2 before its linear layer.
    """

    def learner(learn: Measured, score: Measured, decision: str) -> Scores:
        channels = learn[decision].shape[1]
        target = learn["teacher"].softmax(dim=1)
        layers: list[nn.Module] = [nn.AvgPool2d(2)]
        macs, side = 0, learn[decision].shape[2] // 2
        for width in WIDTHS_OF_HEAD[:convolutions]:
            side //= 2
            layers += [nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
            macs += 9 * channels * width * side**2
            channels = width
        classes = target.shape[1]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
        network = nn.Sequential(*layers)

        def objective(rows: Tensor, epoch: int) -> Tensor:
            own = network(learn[decision][rows].float()).log_softmax(dim=1)
            return kl_div(own, target[rows], reduction="batchmean")

        fit(network, objective, len(target))
        with torch.no_grad():
            learned, scored = (
                torch.cat([margin(network(part.float())) for part in one[decision].split(BATCH)])
                for one in (learn, score)
            )
        return learned, scored, macs + channels * classes

    return learner


def fit(network: nn.Module, objective: Callable[[Tensor, int], Tensor], images: int) -> None:
    """Minimize an objective of rows and epoch by Adam, and leave the network in eval mode."""
    adam = torch.optim.Adam(network.parameters(), LEARNING_RATE, weight_decay=1e-4)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(adam, EPOCHS)
    for epoch in range(EPOCHS):
        for rows in torch.randperm(images).split(BATCH):
            adam.zero_grad()
            objective(rows, epoch).backward()
            adam.step()
        rates.step()
    network.eval()


LEARNERS: dict[str, Learner] = {
    "margin, ridge regression": regression,
    "policy (VideoIQ)": policy,
    "exit head, linear": exit_head(0),
    "exit head, 2 convolutions": exit_head(2),
}
