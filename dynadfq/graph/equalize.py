"""Cross-layer equalization and absorption of high biases: the same function from weights that
quantize better.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
arXiv 1906.04721, Sec. 4.1. A channel's scale is moved between the layers of a pair until all its
weights have the same range; for a depthwise convolution between two others (MobileNet) the three
are balanced at once. Ranges are largest absolute values. Both steps need folded BatchNorms
(fold.py), whose distributions follow the scaling.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, fx, nn

from dynadfq.graph.fold import Folded
from dynadfq.graph.gaussian import Gaussian
from dynadfq.graph.pairs import Pair, find_chains, find_pairs

LARGEST_SCALE = 1e8  # of one step, in either direction


@torch.no_grad()
def equalize(folded: Folded, sweeps: int = 100, tolerance: float = 1e-4) -> Folded:
    """Balance the channel ranges of all pairs and triplets (DFQ, Sec. 4.1 and appendix A); the
    argument is not changed.

    Overlapping chains need several sweeps, the last being one that changes no scale by more than
    ``tolerance`` (relative). Channels without a nonzero weight on either side stay as they are.
    """
    network, gaussians = deepcopy(folded.network), dict(folded.gaussians)
    for name, (second, scale) in balancing_scales(network, sweeps, tolerance).items():
        _scale_pair(network.get_submodule(name), network.get_submodule(second), scale)
        if name in gaussians:
            gaussians[name] = Gaussian(gaussians[name].mean / scale, gaussians[name].std / scale)
    return Folded(network, gaussians)


@torch.no_grad()
def balancing_scales(
    network: fx.GraphModule, sweeps: int, tolerance: float
) -> dict[str, tuple[str, Tensor]]:
    """For the first layer of each pair, the second, and the (C,) factors by which to divide the
    channels between them.

    They follow from the largest weight of each connection of two channels, so that sweeps need not
    touch the weights.
    """
    chains = find_chains(network)
    pairs = [pair for chain in chains for pair in chain]
    channels = {pair.second: len(_weight(network.get_submodule(pair.first))) for pair in pairs}
    tables: dict[str, Tensor] = {}
    for name in dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)):
        layer = network.get_submodule(name)
        tables[name] = _columns(layer, channels.get(name)).abs().amax(dim=3)
    scales = {pair.first: tables[pair.first].new_ones(channels[pair.second]) for pair in pairs}
    for _ in range(sweeps):
        if max((_balance(tables, scales, chain) for chain in chains), default=0.0) <= tolerance:
            break
    return {pair.first: (pair.second, scales[pair.first]) for pair in pairs}


@torch.no_grad()
def absorb_high_biases(folded: Folded, padded: bool = False, sigmas: float = 3.0) -> Folded:
    """Move c = max(0, β - 3|γ|) of each channel from a layer into the bias of the next (DFQ, Sec.
    4.1.3).

    ReLU(x) - c = ReLU(x - c) wherever x > c, which for normal x is all but 0.135 % of values. Where
    nothing rectifies between the layers, c = β is exact. The argument is not changed.

    Args:
        folded: the network; layers without a distribution keep their biases.
        padded: also absorb where the second layer sees zero padding, where the result is wrong
            along the border, as the paper and its followers do.
        sigmas: standard deviations below β at which c lies.
    """
    network, gaussians = deepcopy(folded.network), dict(folded.gaussians)
    for pair in find_pairs(network):
        if pair.first in gaussians and (padded or not pair.padded):
            mean, std = gaussians[pair.first]
            c = (mean - sigmas * std).clamp(min=0) if pair.rectified else mean
            first, second = network.get_submodule(pair.first), network.get_submodule(pair.second)
            _bias(first).sub_(c)
            columns = _columns(second, len(c)).sum(dim=3)
            _bias(second).add_((columns * c.view(len(columns), 1, -1)).sum(dim=2).flatten())
            gaussians[pair.first] = Gaussian(mean - c, std)
    return Folded(network, gaussians)


def _balance(
    tables: dict[str, Tensor], scales: dict[str, Tensor], chain: tuple[Pair, ...]
) -> float:
    """Give the layers of a chain equal ranges in each channel; returns the largest relative change
    of a scale.
    """
    names = [chain[0].first, *(pair.second for pair in chain)]
    outputs = tables[names[0]].amax(dim=2).flatten()
    ranges = torch.stack([outputs, *(tables[name].amax(dim=1).flatten() for name in names[1:])])
    alive = (ranges > 0).all(dim=0)
    common = ranges.where(alive, ranges.new_ones(())).log().mean(dim=0).exp()
    scale, change = torch.ones_like(common), 0.0
    for pair, own in zip(chain, ranges[:-1], strict=True):
        scale = (
            (scale * own / common)
            .clamp(1 / LARGEST_SCALE, LARGEST_SCALE)
            .where(alive, common.new_ones(()))
        )
        first, second = tables[pair.first], tables[pair.second]
        first.div_(scale.view(len(first), -1, 1))
        second.mul_(scale.view(len(second), 1, -1))
        scales[pair.first].mul_(scale)
        change = max(change, float(scale.log().abs().max().expm1()))
    return change


def _scale_pair(first: nn.Module, second: nn.Module, scale: Tensor) -> None:
    """Divide the outputs of one layer by (C,) scales and multiply the weights that read them."""
    weight = _weight(first)
    weight.div_(scale.view(-1, *[1] * (weight.dim() - 1)))
    _bias(first).div_(scale)
    columns = _columns(second, len(scale))
    columns.mul_(scale.view(len(columns), 1, -1, 1))


def _columns(layer: nn.Module, channels: int | None = None) -> Tensor:
    """A view of a layer's weights: (groups, outputs of a group, inputs of a group, weights of such
    a connection).

    ``channels`` is how many the layer before has: a linear layer behind a flattened map has several
    inputs a channel, one next to the other. None is as many as the layer has inputs.
    """
    weight, groups = _weight(layer), layer.groups if isinstance(layer, nn.Conv2d) else 1
    inputs = weight.shape[1] if channels is None else channels // groups
    return weight.view(groups, len(weight) // groups, inputs, -1)


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight.data


def _bias(layer: nn.Module) -> Tensor:
    assert isinstance(layer.bias, Tensor), "fold gives every layer a bias"
    return layer.bias.data
