"""Static mixed precision: a width for each layer and site, from what each costs the output.

ZeroQ (Cai et al., CVPR 2020, arXiv 2001.00281), Sec. 3.3: the sensitivity of a layer at b bits is
KL(float output || output with this layer alone at b bits), averaged over synthetic images, and
sensitivities are assumed to add. The paper traces the Pareto frontier of their sum and the size by
dynamic programming. Here activations have sensitivities of their own, the limit is the bit-FLOPs of
uniform widths, in which the widths of a layer and of its input multiply, and the best point within
it is found by integer programming (``quant.knapsack``).

``with_wide_layers`` chooses weights alone, between the scheme's width and 8 bits, within a mean
width: what a file of 4-bit weights may grow by.

All others stay in float: with all others at their target width, a single change drowns in the error
of the rest, and a site may seem to gain from fewer bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from dynadfq.graph.config import FLOAT_BITS
from dynadfq.ptq.calibration import (
    AVERAGES,
    CALIBRATION_BATCH,
    Observer,
    Range,
    attached,
    observer,
)
from dynadfq.quant.activation_site import ActivationFakeQuantize
from dynadfq.quant.build import build_student
from dynadfq.quant.config import QuantizationConfig, Scheme
from dynadfq.quant.knapsack import Floats, Limit, choose
from dynadfq.quant.layers import WIDEST_ACTIVATION, QuantizedLayer
from dynadfq.quant.model import Student
from dynadfq.quant.sensitivity import divergence
from dynadfq.quant.width_config import AllocationConfig, MixedWidths
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

WIDE_LAYER_IMAGES = 32
TOLERANCE = 1e-9  # share of the budget, between two sums of the same costs in another order


def sensitivity_widths(
    teacher: Teacher,
    scheme: Scheme,
    images: SyntheticSet,
    quantization: QuantizationConfig,
    scratch: Scratch,
) -> MixedWidths:
    """Return widths of least sensitivity that cost no more than the scheme's uniform ones.

    Sites whose width images choose stay as they are, and cost the target; so do the sites that
    always have 8 bits.

    Args:
        teacher: the float network that is quantized.
        scheme: its uniform widths are the budget.
        images: synthetic images; the first ``allocation.images`` are used.
        quantization: candidate widths, and how ranges are observed.
        scratch: keeps the sensitivities measured so far.
    """
    target = scheme.target_bits
    update = {"activation_bits": (target,), "ranges": None, "mixed": None}
    probe = build_student(teacher, scheme.model_copy(update=update))
    table = sensitivities(probe, teacher, images, quantization, scratch, sites=not scheme.dynamic)
    return best_widths(probe, table, quantization.allocation)


def with_wide_layers(
    teacher: Teacher, scheme: Scheme, images: SyntheticSet, mean_bits: float, scratch: Scratch
) -> Scheme:
    """Return a scheme with 8 bits for those weights that lose most at the scheme's width.

    The sum of the layers' sensitivities is the least that is possible with a mean width, over all
    weights, within a limit.

    Args:
        teacher: the float network that is quantized.
        scheme: widths of all other layers.
        images: synthetic images; the first ``WIDE_LAYER_IMAGES`` are used.
        mean_bits: limit of the mean width, at least the scheme's.
        scratch: keeps the sensitivities measured so far.
    """
    widths = (scheme.weight_bits, WIDEST_ACTIVATION)
    probe = build_student(teacher, scheme)
    allocation = AllocationConfig(rule="sensitivity", widths=widths, images=WIDE_LAYER_IMAGES)
    measured = QuantizationConfig(allocation=allocation)
    table = sensitivities(probe, teacher, images, measured, scratch, sites=False)
    counts = {name: layer.weight.numel() for name, layer in _layers(probe).items()}
    total = sum(counts.values())
    means = [np.array(widths) * count / total for count in counts.values()]
    found = choose(list(table.double().numpy()), [Limit(means, 0.0, mean_bits * (1 + TOLERANCE))])
    assert found is not None  # the scheme's width is within the limit
    bits = {name: widths[option] for name, option in zip(counts, found, strict=True)}
    return scheme.model_copy(update={"mixed": MixedWidths(weights=bits)})


@torch.no_grad()
def sensitivities(
    probe: Student,
    teacher: Teacher,
    images: SyntheticSet,
    quantization: QuantizationConfig,
    scratch: Scratch,
    sites: bool = True,
) -> Tensor:
    """Return KL(float || one layer or site quantized), the mean over images.

    An activation has the range that calibration gives it at the width.

    Args:
        probe: a student of the network; its layers and sites are quantized one by one.
        teacher: the float network.
        images: what both classify.
        quantization: candidate widths, number of images, and how ranges are calibrated.
        scratch: keeps the finished rows.
        sites: measure activation sites too.

    Returns:
        (layers + S, M) in nats, of M widths: layers in the order of execution, then the sites, with
        0 for those that always have 8 bits; without ``sites`` the layers alone.
    """
    config = quantization.allocation
    batches = [batch.images for batch in images.batches(CALIBRATION_BATCH, config.images)]
    layers = _layers(probe)
    parts: list[QuantizedLayer | ActivationFakeQuantize] = [*layers.values()]
    ranges: list[Range] = []
    if sites:
        parts += probe.sites
        ranges = _ranges(probe, batches, quantization)
    rows: list[Tensor] = list((scratch.load() or {"rows": []})["rows"])
    expected = [teacher(batch.to(probe.device)) for batch in batches]
    missing = parts[len(rows) :]
    steps = sum(not _always_wide(part) for part in missing) * len(config.widths)
    with Progress("sensitivity", steps, unit="pass") as progress, probe.unquantized():
        for index, part in enumerate(missing, start=len(rows)):
            if _always_wide(part):
                rows.append(torch.zeros(len(config.widths)))
                continue
            row = []
            for column, width in enumerate(config.widths):
                found = ranges[index - len(layers)] if index >= len(layers) else None
                with _alone(part, width, found, column):
                    outputs = (probe(batch.to(probe.device)) for batch in batches)
                    pairs = zip(expected, outputs, strict=True)
                    row.append(torch.cat([divergence(*pair) for pair in pairs]).mean())
                progress.step()
            rows.append(torch.stack(row).cpu())
            scratch.save({"rows": rows})
    return torch.stack(rows)


def _always_wide(part: QuantizedLayer | ActivationFakeQuantize) -> bool:
    return isinstance(part, ActivationFakeQuantize) and part.wide


def _ranges(
    probe: Student, batches: Sequence[Tensor], quantization: QuantizationConfig
) -> list[Range]:
    """Return the bounds of each site at each candidate width, (M,) each."""
    config = quantization.ranges
    rule = observer(config.observer, config.quantile)
    average = AVERAGES[config.average]
    widths = quantization.allocation.widths
    sites = [_Observers([Observer(rule, average, bits) for bits in widths]) for _ in probe.sites]
    with probe.unquantized(), attached(probe, sites):
        for batch in batches:
            probe(batch.to(probe.device))
    return [site.range() for site in sites]


class _Observers(NamedTuple):
    """Observers of one site, each at a width alone."""

    of_width: Sequence[Observer]

    def update(self, x: Tensor) -> None:
        for one in self.of_width:
            one.update(x)

    def range(self) -> Range:
        """Return the bounds at each width, (M,) each."""
        lows, highs = zip(*(one.range() for one in self.of_width), strict=True)
        return torch.stack(lows), torch.stack(highs)


@contextmanager
def _alone(
    part: QuantizedLayer | ActivationFakeQuantize, width: int, found: Range | None, column: int
) -> Iterator[None]:
    """Quantize one layer or site at a width in this block."""
    part.quantizing = True
    if isinstance(part, QuantizedLayer):
        before, part.weight_bits = part.weight_bits, width
    else:
        assert found is not None
        before, part.bits = part.bits, width
        part.set_range(found[0][column], found[1][column])
    try:
        yield
    finally:
        part.quantizing = False
        if isinstance(part, QuantizedLayer):
            part.weight_bits = before
        else:
            part.bits = before


def best_widths(probe: Student, table: Tensor, config: AllocationConfig) -> MixedWidths:
    """Return the widths with the least sum of sensitivities at no more than uniform bit-FLOPs.

    Args:
        probe: a student of uniform widths, which are the budget.
        table: (layers + S, M) sensitivities, or (layers, M), which leaves every site at its uniform
            width.
        config: the M candidate widths, and whether size is limited too.
    """
    names = list(_layers(probe))
    widths = np.array(config.widths, dtype=float)
    harm = list(table[: len(names)].double().numpy())
    options = [widths] * len(names)
    free = [len(table) > len(names) and not site.wide for site in probe.sites]
    for index, site in enumerate(probe.sites):
        harm.append(table[len(names) + index].double().numpy() if free[index] else np.zeros(1))
        options.append(widths if free[index] else np.array([float(site.bits)]))
    limits = [_bit_flops(probe, names, options)]
    if config.keep_size:
        limits.append(_size(probe, options))
    found = choose(harm, limits)
    assert found is not None  # uniform widths, or narrower ones, are within the limits
    bits = [int(width[option]) for width, option in zip(options, found, strict=True)]
    sites = zip(probe.site_names, bits[len(names) :], free, strict=True)
    return MixedWidths(
        weights=dict(zip(names, bits, strict=False)),
        activations={name: width for name, width, chosen in sites if chosen},
    )


def _layers(probe: Student) -> dict[str, QuantizedLayer]:
    """Return the layers in the order of their first call, by name."""
    names = dict.fromkeys(layer.name for layer in probe.cost.trace.layers)
    return {name: cast(QuantizedLayer, probe.network.get_submodule(name)) for name in names}


def _bit_flops(probe: Student, names: Sequence[str], options: Sequence[Floats]) -> Limit:
    """Return the bit-FLOPs of all widths in units of the uniform ones, of which 1 is the limit."""
    cost = probe.cost
    budget = float(cost.total(probe.own_allocation.bits[0]))
    own = [np.zeros(len(widths)) for widths in options]
    shared: dict[tuple[int, int], Floats] = {}
    for layer in cost.trace.layers:
        group = names.index(layer.name)
        macs = layer.macs / budget
        in_float = 1.0
        for index, site in enumerate(probe.site_names):
            if fraction := layer.fraction_from(site):
                pair = (group, len(names) + index)
                products = macs * fraction * np.outer(options[group], options[pair[1]])
                shared[pair] = shared.get(pair, 0.0) + products
                in_float -= fraction
        own[group] = own[group] + macs * in_float * FLOAT_BITS * options[group]
    free = 1.0 - cost.float_operations / budget
    return Limit(own, 0.0, free * (1 + TOLERANCE), shared)


def _size(probe: Student, options: Sequence[Floats]) -> Limit:
    """Return the bits of all weights in units of the uniform ones, of which 1 is the limit."""
    counts = [layer.weight.numel() for layer in _layers(probe).values()]
    whole = sum(counts) * probe.scheme.weight_bits
    weights = [count / whole * options[index] for index, count in enumerate(counts)]
    sites = [np.zeros(len(widths)) for widths in options[len(counts) :]]
    return Limit([*weights, *sites], 0.0, 1 + TOLERANCE)
