"""Cross-layer equalization and absorption of high biases (DFQ).

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
arXiv 1906.04721, Sec. 4.1: the same function from weights that quantize better. A channel's scale
is moved between the layers of a pair until both have the same range; for a depthwise convolution
between two others (MobileNet) the three are balanced at once. Ranges are largest absolute values.
Both steps need folded BatchNorms (fold.py), whose distributions are scaled too.
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
    """Balance the channel ranges of all pairs and triplets (DFQ, Sec. 4.1 and appendix A).

    Channels whose weights are all zero on one side stay as they are.

    Args:
        folded: the network; it is not changed.
        sweeps: over all chains at most; overlapping ones need several.
        tolerance: sweeps end with one that changes no scale by more than this fraction.
    """
    network = deepcopy(folded.network)
    gaussians = dict(folded.gaussians)
    for name, (second, scale) in balancing_scales(network, sweeps, tolerance).items():
        _scale_pair(network.get_submodule(name), network.get_submodule(second), scale)
        if name in gaussians:
            mean, std = gaussians[name]
            gaussians[name] = Gaussian(mean / scale, std / scale)
    return Folded(network, gaussians)


@torch.no_grad()
def balancing_scales(
    network: fx.GraphModule, sweeps: int, tolerance: float
) -> dict[str, tuple[str, Tensor]]:
    """Return for the first layer of each pair the second, and the (C,) divisors of its channels.

    Sweeps work on the largest weight of each connection of two channels, not on all weights.
    """
    chains = find_chains(network)
    pairs = [pair for chain in chains for pair in chain]
    channels = {pair.second: len(_weight(network.get_submodule(pair.first))) for pair in pairs}
    largest: dict[str, Tensor] = {}
    for name in dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)):
        layer = network.get_submodule(name)
        largest[name] = _connections(layer, channels.get(name)).abs().amax(dim=3)
    scales = {pair.first: largest[pair.first].new_ones(channels[pair.second]) for pair in pairs}
    for _ in range(sweeps):
        if max((_balance(largest, scales, chain) for chain in chains), default=0.0) <= tolerance:
            break
    return {pair.first: (pair.second, scales[pair.first]) for pair in pairs}


@torch.no_grad()
def absorb_high_biases(folded: Folded, padded: bool = False, sigmas: float = 3.0) -> Folded:
    """Move c = max(0, β - 3|γ|) of each channel into the bias of the next layer (DFQ, Sec. 4.1.3).

    ReLU(x) - c = ReLU(x - c) wherever x > c, which for normal x is all but 0.135 % of values.
    Without an activation between the layers, c = β is exact.

    Args:
        folded: the network, which is not changed; layers without a distribution keep their biases.
        padded: also absorb if the second layer sees zero padding, where the result is wrong
            along the border, as the paper and its followers do.
        sigmas: standard deviations below β at which c lies.
    """
    network = deepcopy(folded.network)
    gaussians = dict(folded.gaussians)
    for pair in find_pairs(network):
        if pair.first not in gaussians or (pair.padded and not padded):
            continue
        mean, std = gaussians[pair.first]
        c = (mean - sigmas * std).clamp(min=0) if pair.rectified else mean
        second = network.get_submodule(pair.second)
        weights = _connections(second, len(c)).sum(dim=3)
        _bias(network.get_submodule(pair.first)).sub_(c)
        _bias(second).add_((weights * c.view(len(weights), 1, -1)).sum(dim=2).flatten())
        gaussians[pair.first] = Gaussian(mean - c, std)
    return Folded(network, gaussians)


def _balance(
    largest: dict[str, Tensor], scales: dict[str, Tensor], chain: tuple[Pair, ...]
) -> float:
    """Give the layers of a chain equal ranges per channel; return the largest relative change."""
    names = [chain[0].first, *(pair.second for pair in chain)]
    outputs = largest[names[0]].amax(dim=2).flatten()
    ranges = torch.stack([outputs, *(largest[name].amax(dim=1).flatten() for name in names[1:])])
    one = ranges.new_ones(())
    alive = (ranges > 0).all(dim=0)
    common = ranges.where(alive, one).log().mean(dim=0).exp()
    scale = torch.ones_like(common)
    change = 0.0
    for pair, own in zip(chain, ranges[:-1], strict=True):
        scale = scale * own / common
        scale = scale.clamp(1 / LARGEST_SCALE, LARGEST_SCALE).where(alive, one)
        first = largest[pair.first]
        second = largest[pair.second]
        first.div_(scale.view(len(first), -1, 1))
        second.mul_(scale.view(len(second), 1, -1))
        scales[pair.first].mul_(scale)
        change = max(change, float(scale.log().abs().max().expm1()))
    return change


def _scale_pair(first: nn.Module, second: nn.Module, scale: Tensor) -> None:
    """Divide the outputs of one layer by (C,) scales, and multiply the weights that read them."""
    weight = _weight(first)
    weight.div_(scale.view(-1, *[1] * (weight.dim() - 1)))
    _bias(first).div_(scale)
    connections = _connections(second, len(scale))
    connections.mul_(scale.view(len(connections), 1, -1, 1))


def _connections(layer: nn.Module, channels: int | None = None) -> Tensor:
    """A view of a layer's weights, (groups, outputs per group, inputs per group, weights).

    ``channels`` is the number of the layer before: a linear layer after a flattened map has several
    adjacent inputs per channel. None is the number of the layer's inputs.
    """
    weight = _weight(layer)
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    inputs = weight.shape[1] if channels is None else channels // groups
    return weight.view(groups, len(weight) // groups, inputs, -1)


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight.data


def _bias(layer: nn.Module) -> Tensor:
    assert isinstance(layer.bias, Tensor), "fold gives every layer a bias"
    return layer.bias.data
