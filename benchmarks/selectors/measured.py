"""What an any-width student answers at each width, with the layers up to a point at 4 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, fx

from dynadfq.quant.model import Student

WIDTHS = LOWEST, MIDDLE, HIGHEST = 3, 4, 5
DECISIONS = {"convolution 2": 1, "stage 1": 6, "stage 2": 12}  # the last site with 4 bits
FACTORS = (0.65, 0.7, 0.75, 0.8, 0.9, 1.0)  # of the ranges at 3 bits

Measured = dict[str, Tensor]
"""By name: ``teacher`` and ``4``, (N, classes) logits; for each decision ``NAME:3`` and ``NAME:5``,
logits with 3 or 5 bits after it, and NAME, the (N, C, H, W) float16 activation that it reads.
"""


@contextmanager
def scaled(student: Student, factor: float) -> Iterator[None]:
    """Multiply all ranges by a factor for the time of this block."""
    before = [
        (site, site.low.detach().clone(), site.high.detach().clone()) for site in student.sites
    ]
    for site, low, high in before:
        site.set_range(low * factor, high * factor)
    try:
        yield
    finally:
        for site, low, high in before:
            site.set_range(low, high)


@torch.no_grad()
def least_divergence(student: Student, images: Tensor, teacher_logits: Tensor) -> float:
    """Return the factor of the ranges with the least KL(teacher ‖ student) at 3 bits."""
    target = teacher_logits.softmax(dim=1)

    def cross_entropy(factor: float) -> float:
        with scaled(student, factor):
            own = student.run(images, student.uniform(LOWEST))[0].log_softmax(dim=1)
        return -float((target * own).sum())

    return min(FACTORS, key=cross_entropy)


@torch.no_grad()
def measure(
    student: Student,
    teacher: Callable[[Tensor], Tensor],
    batches: Iterable[Tensor],
    factor: float,
) -> Measured:
    """Run images at each width after each decision; the layers before it run once.

    Args:
        student: in eval mode, with ranges that all widths share.
        teacher: maps images to logits.
        batches: (B, C, H, W) images.
        factor: of the ranges at 3 bits.
    """
    nodes = list(student.network.graph.nodes)
    by_target = {node.target: node for node in nodes}
    interpreter = fx.Interpreter(student.network, garbage_collect_values=False)
    found: dict[str, list[Tensor]] = {}
    for images in batches:
        results = {"teacher": teacher(images)}
        results[str(MIDDLE)] = interpreter.run(images, student.uniform(MIDDLE))[0]
        values = dict(interpreter.env)
        for name, site in DECISIONS.items():
            quantizer = by_target[f"sites.{site}"]
            results[name] = values[quantizer][0].half()
            last = max(nodes.index(node) for node in (quantizer, *quantizer.users))
            done = {node: values[node] for node in nodes[: last + 1]}
            for width in (LOWEST, HIGHEST):
                chosen = student.uniform(width)
                given = {by_target["allocation"]: chosen, by_target["selector"]: chosen}
                with scaled(student, factor if width == LOWEST else 1.0):
                    results[f"{name}:{width}"] = interpreter.run(initial_env={**done, **given})[0]
        for name, values_of_batch in results.items():
            found.setdefault(name, []).append(values_of_batch)
    return {name: torch.cat(parts) for name, parts in found.items()}


def percent(student: Student, decision: str) -> tuple[float, float, float]:
    """Return an image's cost with 3, 4 and 5 bits after a decision, in percent of the float one."""
    bits = torch.full((len(WIDTHS), len(student.sites)), float(MIDDLE))
    bits[:, DECISIONS[decision] + 1 :] = torch.tensor(WIDTHS)[:, None].float()
    low, middle, high = student.bit_flops_percent(bits).tolist()
    return low, middle, high
