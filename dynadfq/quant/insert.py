"""From a float graph to a student's graph: quantized layers, activation quantizers, bit selector.

The student's graph takes images and, optionally, a bit allocation, and returns logits and the
allocation that was used (docs/decisions/0001). The selector's allocation is an ordinary value of
the graph, an input of every quantizer after it; there is no hidden state.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence

from torch import Tensor, fx, nn

from dynadfq.graph.calls import called_module, only_user
from dynadfq.graph.description import IMAGES, Layer, NetworkTrace, Site
from dynadfq.ops.batch_norm import AnyBatchNorm
from dynadfq.ops.layers import layer_kind
from dynadfq.quant.activation_site import ActivationFakeQuantize
from dynadfq.quant.config import SELECTOR_PART, SITES_PART, Scheme
from dynadfq.quant.layers import WIDEST_ACTIVATION, QuantConv2d, QuantizedLayer, QuantLinear
from dynadfq.quant.selector import BitSelector
from dynadfq.quant.width_config import MixedWidths
from dynadfq.runtime.errors import InvalidArgument, did_you_mean

# The site after the first convolution; the selector reads the activation after the second one
# (DynaDFQ, Sec. 4.1).
FIXED_SITES = 1
QUANTIZED: dict[str, type[QuantizedLayer]] = {"conv": QuantConv2d, "linear": QuantLinear}


def insert_quantizers(
    model: fx.GraphModule,
    trace: NetworkTrace,
    scheme: Scheme,
    percent_per_bit: Tensor,
    pixels: tuple[float, float] | None = None,
) -> fx.GraphModule:
    """Turn a normalized float graph into a student's, in place, and return it.

    Args:
        model: the float graph.
        trace: its layers and activation sites.
        scheme: bit-widths and sites.
        percent_per_bit: (S,) cost of a bit at each site, in percent of the float model's bit-FLOPs.
        pixels: the smallest and the largest value of a normalized pixel, for scheme "integer".

    Raises:
        InvalidArgument: the network cannot have a bit selector: it is too short, the selector would
            not read a map of channels and pixels, or a site's first axis does not count images; or
            it has parts of the names of the student's own.
    """
    _require_free_names(model)
    sites = trace.sites(scheme.sites)
    _require_known(sites, trace, scheme.mixed or MixedWidths())
    if scheme.dynamic:
        _require_selectable(sites, scheme)
    graph = model.graph
    nodes = {node.name: node for node in graph.nodes}
    allocation = _add_allocation_input(graph)
    scales: dict[str, fx.Node] = {}
    for index, site in enumerate(sites):
        source = nodes[site.node]
        after = allocation if source.op == "placeholder" else source
        if scheme.dynamic and index == FIXED_SITES:
            selector = BitSelector(
                site.channels,
                len(sites),
                scheme.activation_bits,
                scheme.target_bits,
                FIXED_SITES,
                scheme.selector,
                percent_per_bit,
            )
            allocation = _call_after(model, source, SELECTOR_PART, selector, (source, allocation))
            after = allocation
        quantizer = ActivationFakeQuantize(
            index,
            WIDEST_ACTIVATION if site.wide else scheme.bits_of_site(site.name),
            scheme.learned_ranges,
            site.limits,
            site.wide,
            pixels if site.name == IMAGES else None,
            scheme.range_widths,
        )
        output = _call_after(model, after, f"{SITES_PART}.{index}", quantizer, (source, allocation))
        value = _item_after(graph, output, output, 0)
        scales[site.name] = _item_after(graph, value, output, 1)
        if scheme.sites == "layer_input":
            readers = {nodes[layer.node] for layer in trace.layers if layer.input_site == site.name}
        else:
            readers = set(source.users) - {output, allocation}
        for reader in readers:
            reader.replace_input_with(source, value)
    taken: set[nn.Parameter] = set()
    for layer in trace.layers:
        _quantize_layer(model, layer.name, scheme, taken)
        if scale := _input_scale(layer, scales):
            node = nodes[layer.node]
            node.args = (node.args[0], scale)
    if scheme.integer:
        _note_norms(model)
    _return_allocation(graph, allocation)
    graph.lint()
    model.recompile()
    return model


def _require_free_names(model: fx.GraphModule) -> None:
    """Check that the network has no parts of the names that a student's own parts have."""
    children = {name for name, _ in model.named_children()}
    if taken := sorted(children & {SITES_PART, SELECTOR_PART}):
        raise InvalidArgument(
            "module",
            f"it has a part with the name {taken[0]!r}, as the student's own; rename it",
        )


def _require_known(sites: Sequence[Site], trace: NetworkTrace, mixed: MixedWidths) -> None:
    """Check that widths were given to layers and sites that exist and can have them."""
    layers = {layer.name for layer in trace.layers}
    for kind, part, names, known in (
        ("weights", "layer", mixed.weights, layers),
        ("activations", "site", mixed.activations, {site.name for site in sites if not site.wide}),
    ):
        if wrong := sorted(set(names) - known):
            raise InvalidArgument(
                f"mixed.{kind}",
                f"this network has no {part} {wrong[0]!r} whose width can be chosen"
                + did_you_mean(wrong[0], known),
            )


def _require_selectable(sites: Sequence[Site], scheme: Scheme) -> None:
    if len(sites) <= FIXED_SITES:
        raise InvalidArgument(
            "activation_bits",
            f"the network has {len(sites)} activation sites, and a bit selector "
            f"needs {FIXED_SITES + 1}; give one width",
        )
    read = sites[FIXED_SITES]
    if read.axes != 4:
        raise InvalidArgument(
            "activation_bits",
            f"to choose among {list(scheme.activation_bits)}, a bit selector "
            f"would read {read.name}, which is not a map of channels and pixels (tokens of a "
            "transformer?); give one width",
        )
    for site in sites:
        if site.rows > 1:
            raise InvalidArgument(
                "activation_bits",
                f"{site.name} has {site.rows} rows per image (patches instead of "
                "images?), and a width per image needs one row; give one width",
            )


def _add_allocation_input(graph: fx.Graph) -> fx.Node:
    images = next(node for node in graph.nodes if node.op == "placeholder")
    with graph.inserting_after(images):
        return graph.placeholder("allocation", default_value=None)


def _call_after(
    model: fx.GraphModule, after: fx.Node, name: str, module: nn.Module, args: tuple[fx.Node, ...]
) -> fx.Node:
    model.add_submodule(name, module)
    with model.graph.inserting_after(after):
        return model.graph.call_module(name, args)


def _item_after(graph: fx.Graph, after: fx.Node, source: fx.Node, index: int) -> fx.Node:
    with graph.inserting_after(after):
        return graph.call_function(operator.getitem, (source, index))


def _quantize_layer(
    model: fx.GraphModule, name: str, scheme: Scheme, taken: set[nn.Parameter]
) -> None:
    """Replace a layer by a quantized one with parameters that no earlier one has taken.

    Tied weights become one weight each: codes belong to a layer, and so does what is learned.
    """
    old = model.get_submodule(name)
    kind = layer_kind(old)
    if kind is not None:  # else it was replaced at an earlier call
        new = QUANTIZED[kind].from_float(
            old,
            scheme.bits_of_layer(name),
            scheme.weight_granularity,
            symmetric=scheme.integer,
            exact=not scheme.float_activations,
        )
        for key, parameter in list(new.named_parameters(recurse=False)):
            if parameter in taken:
                own = parameter.detach().clone()
                setattr(new, key, nn.Parameter(own, parameter.requires_grad))
        taken.update(new.parameters(recurse=False))
        model.set_submodule(name, new)


def _note_norms(model: fx.GraphModule) -> None:
    """Let each layer that is called once know the BatchNorm that alone reads it."""
    calls = Counter(str(node.target) for node in model.graph.nodes if node.op == "call_module")
    for node in model.graph.nodes:
        layer = called_module(node, model)
        reader = only_user(node)
        if isinstance(layer, QuantizedLayer) and reader is not None and calls[node.target] == 1:
            norm = called_module(reader, model)
            layer.__dict__["norm"] = norm if isinstance(norm, AnyBatchNorm) else None


def _input_scale(layer: Layer, scales: dict[str, fx.Node]) -> fx.Node | None:
    """The scale of a layer's input, where a single site provides all of it."""
    only = [name for name in scales if layer.fraction_from(name) == 1.0]
    return scales[only[0]] if only else None


def _return_allocation(graph: fx.Graph, allocation: fx.Node) -> None:
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = ((output.args[0], allocation),)


def site_nodes(model: nn.Module) -> Sequence[ActivationFakeQuantize]:
    """Return a student's activation quantizers in the order of their sites."""
    return sorted(
        (m for m in model.modules() if isinstance(m, ActivationFakeQuantize)),
        key=lambda module: module.site,
    )
