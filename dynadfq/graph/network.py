"""Description of a float network: activations, layers with MACs, and what feeds each layer.

One image of labels (activation_sources.py) runs through the network's graph. Nothing here knows
about quantization.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from dynadfq.graph.activation_sources import (
    FIRST_SITE,
    FLOAT,
    INPUT,
    fractions,
    moves_values,
    relabel,
)
from dynadfq.graph.activations import functional_activation, is_activation_call
from dynadfq.graph.calls import (
    AVERAGE_POOLS,
    called_function,
    called_module,
    calling_block,
)
from dynadfq.graph.description import IMAGES, FloatCall, Layer, NetworkTrace, Site
from dynadfq.graph.integer_sites import IntegerSites
from dynadfq.ops.layers import LayerKind, layer_kind


def describe(model: fx.GraphModule, input_shape: Sequence[int]) -> NetworkTrace:
    """Describe a network by one forward pass.

    Args:
        model: a normalized float network (``normalize``).
        input_shape: (C, H, W).

    Raises:
        ValueError: the network is not normalized.
    """
    _require_normalized(model)
    description = _Description(model)
    weight = next(model.parameters(), torch.empty(0))
    image = torch.full((1, *input_shape), float(INPUT), dtype=weight.dtype, device=weight.device)
    with torch.no_grad(), _eval_mode(model), description.flops:
        description.run(image)
    return description.trace(tuple(input_shape))


class _Description(fx.Interpreter):
    """Runs the graph on labels instead of values, and collects sites, layers and counts."""

    def __init__(self, model: fx.GraphModule) -> None:
        super().__init__(model)
        self.model = model
        self.flops = FlopCounterMode(display=False)
        self.activations: list[Site] = []
        self.layer_inputs: dict[str, Site] = {}  # by the node that makes them
        self.shapes: dict[str, torch.Size] = {}  # of every tensor, by the node that makes it
        self.nests: set[str] = set()  # nodes that make several tensors
        self.layers: list[Layer] = []
        self.float_calls: list[FloatCall] = []
        self.batch_norm_elements = 0
        self.average_pool_elements = 0

    def run_node(self, n: fx.Node) -> Any:
        flops_before = self.flops.get_total_flops()
        inputs = [self.env[source] for source in n.all_input_nodes]
        output = super().run_node(n)
        if isinstance(output, Tensor):
            self.shapes[n.name] = output.shape
        elif any(isinstance(value, Tensor) for value in tree_leaves(output)):
            self.nests.add(n.name)
        macs = (self.flops.get_total_flops() - flops_before) // 2
        module = called_module(n, self.model)
        kind = layer_kind(module) if module is not None else None
        if module is not None and kind is not None:
            self._add_layer(n, kind, module.weight, inputs[0], output)  # type: ignore[arg-type]
        elif macs:
            name = str(n.target) if module is not None else calling_block(n) + n.name
            operation = called_function(n) if module is None else type(module).__name__
            self.float_calls.append(FloatCall(name, operation, macs))
        function = called_function(n)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or function == "batch_norm":
            self.batch_norm_elements += output.numel()
        if isinstance(module, AVERAGE_POOLS) or "avg_pool" in function or function == "mean":
            self.average_pool_elements += inputs[0].numel()
        if is_activation_call(n, self.model):
            self.activations.append(_site(str(n.target), n, output.shape))
            return relabel(output, inputs, FIRST_SITE + len(self.activations) - 1)
        return output if moves_values(n, self.model) else relabel(output, inputs, FLOAT)

    def _add_layer(
        self, node: fx.Node, kind: LayerKind, weight: Tensor, labels: Tensor, output: Tensor
    ) -> None:
        name = str(node.target)
        source = node.all_input_nodes[0]
        share_of = fractions(labels)
        if share_of.keys() != {INPUT} and source.name not in self.layer_inputs:
            taken = {site.name for site in self.layer_inputs.values()}
            site_name = _name_of_call(node, "input", taken)
            self.layer_inputs[source.name] = _site(site_name, source, labels.shape)
        input_site = self.layer_inputs.get(source.name)
        fed_by = {
            self.activations[label - FIRST_SITE].name: share
            for label, share in share_of.items()
            if label >= FIRST_SITE
        }
        self.layers.append(
            Layer(
                name=name,
                node=node.name,
                kind=kind,
                macs=output.numel() // weight.shape[0] * weight.numel(),
                fed_by=fed_by,
                input_site=input_site.name if input_site else None,
            )
        )

    def trace(self, input_shape: tuple[int, ...]) -> NetworkTrace:
        position = {node.name: index for index, node in enumerate(self.model.graph.nodes)}
        layer_inputs = sorted(self.layer_inputs.values(), key=lambda site: position[site.node])
        sites, layers = self.integer_sites()
        return NetworkTrace(
            input_shape=input_shape,
            activations=tuple(self.activations),
            layer_inputs=tuple(layer_inputs),
            integer_sites=sites,
            layers=layers,
            float_calls=tuple(self.float_calls),
            batch_norm_elements=self.batch_norm_elements,
            average_pool_elements=self.average_pool_elements,
        )

    def integer_sites(self) -> tuple[tuple[Site, ...], tuple[Layer, ...]]:
        """Return the sites of scheme "integer", and the layers with the site that each reads."""
        found = IntegerSites(self.model, self.shapes, self.nests)
        sites: dict[str, Site] = {}  # by the node that makes them
        names: set[str] = set()
        for grid in found.grids():
            is_images = grid.node.op == "placeholder"
            name = IMAGES if is_images else _name_of_call(grid.node, "output", names)
            names.add(name)
            site = _site(name, grid.node, self.shapes[grid.node.name])
            sites[grid.node.name] = replace(site, wide=grid.wide, limits=grid.limits)
        nodes = {node.name: node for node in self.model.graph.nodes}
        read = [found.source(nodes[layer.node].all_input_nodes[0]).name for layer in self.layers]
        layers = [
            replace(layer, grid=sites[source].name if source in sites else None)
            for layer, source in zip(self.layers, read, strict=True)
        ]
        return tuple(sites.values()), tuple(layers)


def _name_of_call(node: fx.Node, end: Literal["input", "output"], taken: Container[str]) -> str:
    """Name of the site at an end of a call; that of a module's second call is the node's."""
    of_node = calling_block(node) + node.name
    name = str(node.target) if node.op == "call_module" else of_node
    return f"{of_node if f'{name}.{end}' in taken else name}.{end}"


def _site(name: str, node: fx.Node, shape: torch.Size) -> Site:
    channels = shape[1] if len(shape) > 1 else 1
    return Site(name, node.name, channels, shape.numel(), len(shape), shape[0] if shape else 1)


def _require_normalized(model: fx.GraphModule) -> None:
    called: set[str] = set()
    for node in model.graph.nodes:
        is_site = is_activation_call(node, model)
        name = str(node.target)
        if (is_site and name in called) or functional_activation(node) is not None:
            raise ValueError(
                f"{node.name}: activation without a module of its own; "
                "call normalize(model, example) first"
            )
        if is_site:
            called.add(name)


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Set eval mode, without attention's fused kernels: the FLOP counter does not see these."""
    training = [module for module in model.modules() if module.training]
    fused = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module in training:
            module.training = True
