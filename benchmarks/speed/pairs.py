"""Forms in use beside the plain ones that they replaced, on tensors like those behind a network's
first layers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.speed.networks import Bench
from benchmarks.speed.steps import CANDIDATES, Synthesis, finetuning_step
from dynadfq.ops.batch_norm import layers_with_statistics
from dynadfq.ops.config import Precision
from dynadfq.ops.moments import moments
from dynadfq.ops.precision import compute_precision
from dynadfq.quant import fake_quantize
from dynadfq.quant.fake_quantize import FakeQuantize
from dynadfq.quant.quantize import fake_quantize_reference, fake_quantize_weight

CHANNELS = {
    "resnet20": (16, 32),
    "resnet18": (64, 56),
}  # and pixels along a side, of the maps behind the first layers
Pair = tuple[Callable[[], object], Callable[[], object]]  # the form in use, the plain one


def _maps(bench: Bench) -> Tensor:
    channels, side = CHANNELS[bench.name]
    x = torch.randn(
        bench.network.batch, channels, side, side, generator=torch.Generator().manual_seed(0)
    )
    return x.to(bench.device).contiguous(memory_format=torch.channels_last)


def _to_images(bench: Bench, network: Callable[[Tensor], Tensor]) -> Callable[[], object]:
    """A forward pass and the gradient to the images."""

    def run() -> object:
        images = bench.images.detach().requires_grad_()
        return torch.autograd.grad(cross_entropy(network(images), bench.labels), images)

    return run


def _frozen(bench: Bench) -> Pair:
    layers, _ = layers_with_statistics(bench.teacher.module)

    @contextmanager
    def hooks() -> Iterator[None]:
        kept: list[Tensor] = []
        handles = [
            layer.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
            for layer in layers
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    run = _to_images(bench, bench.teacher)

    def used() -> None:
        with bench.teacher.recording():
            run()

    def plain() -> None:
        with hooks():
            run()

    return used, plain


def _moments(bench: Bench, dims: tuple[int, ...]) -> Pair:
    x = _maps(bench).requires_grad_()

    def run(of: Callable[[], tuple[Tensor, Tensor]]) -> Callable[[], object]:
        def both() -> object:
            first, second = of()
            return torch.autograd.grad(first.sum() + second.square().sum(), x)

        return both

    def plain() -> tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(x, dims)
        return mean, variance

    return run(lambda: moments(x, dims)), run(plain)


def _quantizer(bench: Bench, own_ranges: bool = False) -> Pair:
    """Gradients of the quantizer and of the plain blend, or of one with a range per candidate."""
    x, (low, high) = (
        _maps(bench).requires_grad_(),
        torch.tensor([0.0, 3.0], device=bench.device).unbind(),
    )
    low, high = low.requires_grad_(), high.requires_grad_()
    p = torch.randn(len(x), len(CANDIDATES), device=bench.device).softmax(1).requires_grad_()
    widths = torch.tensor([CANDIDATES], device=bench.device, dtype=torch.float32)
    leaves = (x, low, high, p)

    def blended() -> object:
        parts = (fake_quantize_reference(x, low, high, bits) for bits in CANDIDATES)
        mixed = torch.stack([p[:, m].view(-1, 1, 1, 1) * part for m, part in enumerate(parts)]).sum(
            0
        )
        return torch.autograd.grad(mixed.sum(), leaves)

    def used(low: Tensor = low, high: Tensor = high) -> object:
        return torch.autograd.grad(FakeQuantize.apply(x, low, high, p, widths).sum(), leaves)

    def apart() -> object:
        return used(low.expand(len(CANDIDATES)), high.expand(len(CANDIDATES)))

    return used, apart if own_ranges else blended


def _pieces(bench: Bench) -> Pair:
    used, _ = _quantizer(bench)

    def whole() -> None:
        with patch.object(fake_quantize, "chunks", lambda x: iter([slice(0, len(x))])):
            used()

    return used, whole


def _weights(bench: Bench) -> Pair:
    weight = nn.Conv2d(128, 128, 3).weight.to(bench.device)

    def plain() -> object:
        hard = fake_quantize_weight(weight.detach(), 4)
        return torch.autograd.grad((hard + (weight - weight.detach())).sum(), weight)

    return lambda: torch.autograd.grad(fake_quantize_weight(weight, 4).sum(), weight), plain


def _channels_last(bench: Bench) -> Pair:
    network = copy.deepcopy(bench.teacher.module).to(memory_format=torch.contiguous_format)
    images = bench.images.contiguous()

    def plain() -> object:
        x = images.detach().requires_grad_()
        return torch.autograd.grad(cross_entropy(network(x), bench.labels), x)

    return _to_images(bench, bench.teacher), plain


def _answers(bench: Bench) -> Pair:
    """Two steps on a batch: with the teacher's answers at hand, and with the teacher asked."""
    return finetuning_step(bench, CANDIDATES, answered=True), finetuning_step(bench, CANDIDATES)


def _precise(bench: Bench, what: str) -> Pair:
    step = Synthesis(bench).steps if what == "synthesis" else finetuning_step(bench, CANDIDATES)

    def at(precision: Precision) -> Callable[[], None]:
        def run() -> None:
            with compute_precision(precision, bench.device):
                step()

        return run

    return at("bfloat16"), at("float32")


def _cosines(bench: Bench) -> Pair:
    return Synthesis(bench, "cosines").steps, Synthesis(bench).steps


def _compiled(bench: Bench) -> Pair:
    """The bare network's passes; what compiling takes is not in them (docs/performance.md)."""
    return _to_images(bench, torch.compile(bench.teacher.module)), _to_images(
        bench, bench.teacher.module
    )


CHANGES: dict[str, Callable[[Bench], Pair]] = {
    "BatchNorm that does not learn": _frozen,
    "moments of a batch": lambda bench: _moments(bench, (0, 2, 3)),
    "moments of each image": lambda bench: _moments(bench, (2, 3)),
    "quantizer, three candidates": _quantizer,
    "one range for three candidates": lambda bench: _quantizer(bench, own_ranges=True),
    "quantizer in pieces": _pieces,
    "weights on their grid": _weights,
    "channels last": _channels_last,
    "answers kept": _answers,
    "synthesis in bfloat16": lambda bench: _precise(bench, "synthesis"),
    "fine-tuning in bfloat16": lambda bench: _precise(bench, "fine-tuning"),
    "network compiled": _compiled,
    "cosine coefficients": _cosines,
}
