"""The description of a float network: its activations, its layers with MACs, and which activation
feeds which layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dynadfq.graph.activation_sources import (
    FIRST_SITE,
    FLOAT,
    INPUT,
    called_function,
    fractions,
    moves_values,
    relabel,
)
from dynadfq.graph.activations import functional_activation, is_activation_call
from dynadfq.ops.layers import LayerKind, layer_kind

Placement = Literal["relu_output", "layer_input"]


@dataclass(frozen=True)
class Site:
    """A tensor that activations can be quantized at: the output of graph node `node`."""

    name: str
    node: str
    channels: int
    elements: int
    """Values per image."""
    axes: int
    """Of a batch of it: 4 where it is a map (B, C, H, W)."""
    rows: int = 1
    """Length of its first axis for one image: more where patches are counted there."""


@dataclass(frozen=True)
class Layer:
    """One call of a convolution or linear layer."""

    name: str
    """Path of the module; twice in a trace if the module is called twice."""
    node: str
    kind: LayerKind
    macs: int
    """Multiply-accumulates per image."""
    weight_shape: tuple[int, ...]
    fed_by: Mapping[str, float]
    """Activation name to the fraction of this layer's input that is its output, directly; the rest
    is float32."""
    input_site: str | None
    """Name of the `layer_input` site this layer reads; None for the network input."""

    def fraction_from(self, site: str) -> float:
        """Fraction of the input that comes from a site of either placement."""
        return 1.0 if site == self.input_site else self.fed_by.get(site, 0.0)


@dataclass(frozen=True)
class FloatCall:
    """A call with MACs that is no quantizable layer: `F.conv2d`, a matrix product, attention, a
    module kept whole, …
    """

    name: str
    operation: str
    macs: int


@dataclass(frozen=True)
class NetworkTrace:
    """One image's way through a network, in execution order."""

    input_shape: tuple[int, ...]
    activations: tuple[Site, ...]
    layer_inputs: tuple[Site, ...]
    layers: tuple[Layer, ...]
    float_calls: tuple[FloatCall, ...]
    batch_norm_elements: int
    """Output elements of all BatchNorms."""
    activation_elements: int
    """Output elements of all activations."""
    average_pool_elements: int
    """Input elements of all average pools."""

    def sites(self, placement: Placement = "relu_output") -> tuple[Site, ...]:
        """After each activation; or at each tensor but the network input that a layer reads (layers
        may share one).
        """
        return self.activations if placement == "relu_output" else self.layer_inputs

    @property
    def layer_macs(self) -> int:
        """MACs of all quantizable layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def float_macs(self) -> int:
        """MACs of all calls that stay in float32."""
        return sum(call.macs for call in self.float_calls)

    @property
    def elementwise_operations(self) -> int:
        """One per BatchNorm output, activation output and average-pool input element."""
        return self.batch_norm_elements + self.activation_elements + self.average_pool_elements


_AVERAGE_POOLS = (nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd)


def describe(model: fx.GraphModule, input_shape: Sequence[int]) -> NetworkTrace:
    """Runs one image of `input_shape` (C, H, W) through a normalized float model and writes down
    what happens.
    """
    _check_normalized(model)
    walk = _Walk(model)
    weight = next(model.parameters(), torch.empty(0))
    image = torch.full((1, *input_shape), float(INPUT), dtype=weight.dtype, device=weight.device)
    with torch.no_grad(), _evaluating(model), walk.flops:
        walk.run(image)
    return walk.trace(tuple(input_shape))


class _Walk(fx.Interpreter):
    """Runs the graph on labels (provenance.py) instead of values, and notes sites, layers and
    counts on the way.
    """

    def __init__(self, model: fx.GraphModule) -> None:
        from torch.utils.flop_counter import (
            FlopCounterMode,
        )  # brings triton, which takes a fifth of a second

        super().__init__(model)
        self.model = model
        self.flops = FlopCounterMode(display=False)
        self.activations: list[Site] = []
        self.layer_inputs: dict[str, Site] = {}
        self.layers: list[Layer] = []
        self.float_calls: list[FloatCall] = []
        self.elements = {"batch_norm": 0, "average_pool": 0}

    def run_node(self, n: fx.Node) -> Any:
        flops_before = self.flops.get_total_flops()
        inputs = [self.env[source] for source in n.all_input_nodes]
        output = super().run_node(n)
        module = self.model.get_submodule(str(n.target)) if n.op == "call_module" else None
        if module is not None and layer_kind(module) is not None:
            self._note_layer(n, module, inputs[0], output)
        elif macs := (self.flops.get_total_flops() - flops_before) // 2:
            self.float_calls.append(
                FloatCall(_path(n), type(module).__name__ if module else called_function(n), macs)
            )
        self._note_elements(n, module, inputs, output)
        if is_activation_call(n, self.model):
            return relabel(output, inputs, self._note_activation(n, output))
        return output if moves_values(n, self.model) else relabel(output, inputs, FLOAT)

    def _note_activation(self, node: fx.Node, output: Tensor) -> int:
        self.activations.append(_site(str(node.target), node, output))
        return FIRST_SITE + len(self.activations) - 1

    def _note_layer(self, node: fx.Node, module: nn.Module, labels: Tensor, output: Tensor) -> None:
        name, source, weight = str(node.target), node.all_input_nodes[0], module.weight
        assert isinstance(weight, Tensor)
        shares = fractions(labels)
        if shares.keys() != {INPUT}:
            self.layer_inputs.setdefault(source.name, _site(f"{name}.input", source, labels))
        self.layers.append(
            Layer(
                name=name,
                node=node.name,
                kind=layer_kind(module) or "conv",
                macs=output.numel() // weight.shape[0] * weight.numel(),
                weight_shape=tuple(weight.shape),
                fed_by={
                    self.activations[k - FIRST_SITE].name: share
                    for k, share in shares.items()
                    if k >= FIRST_SITE
                },
                input_site=self.layer_inputs[source.name].name
                if source.name in self.layer_inputs
                else None,
            )
        )

    def _note_elements(
        self, node: fx.Node, module: nn.Module | None, inputs: list[Any], output: Any
    ) -> None:
        function = called_function(node)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or function == "batch_norm":
            self.elements["batch_norm"] += output.numel()
        if isinstance(module, _AVERAGE_POOLS) or "avg_pool" in function or function == "mean":
            self.elements["average_pool"] += inputs[0].numel()

    def trace(self, input_shape: tuple[int, ...]) -> NetworkTrace:
        position = {node.name: index for index, node in enumerate(self.model.graph.nodes)}
        return NetworkTrace(
            input_shape=input_shape,
            activations=tuple(self.activations),
            layer_inputs=tuple(
                sorted(self.layer_inputs.values(), key=lambda site: position[site.node])
            ),
            layers=tuple(self.layers),
            float_calls=tuple(self.float_calls),
            batch_norm_elements=self.elements["batch_norm"],
            activation_elements=sum(site.elements for site in self.activations),
            average_pool_elements=self.elements["average_pool"],
        )


def _site(name: str, node: fx.Node, output: Tensor) -> Site:
    channels = output.shape[1] if output.ndim > 1 else 1
    return Site(name, node.name, channels, output.numel(), output.ndim, len(output))


def _path(node: fx.Node) -> str:
    """Where a call stands: the path of its module, or the node's name within the block whose
    forward makes the call.
    """
    blocks = list((node.meta.get("nn_module_stack") or {}).values())
    if node.op == "call_module":
        return str(node.target)
    return f"{blocks[-1][0]}.{node.name}" if blocks and blocks[-1][0] else node.name


def _check_normalized(model: fx.GraphModule) -> None:
    called: set[str] = set()
    for node in model.graph.nodes:
        is_site, name = is_activation_call(node, model), str(node.target)
        if (is_site and name in called) or functional_activation(node) is not None:
            raise ValueError(
                f"{node.name}: activation without a module of its own; normalize(model, example) first"
            )
        if is_site:
            called.add(name)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode, with attention's fused paths off: the FLOP counter does not see what they
    multiply.
    """
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
