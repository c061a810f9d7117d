"""Normalization of the graph: one module per activation call, none of them in place.

torchvision's ResNets call one ``nn.ReLU`` several times, GoogLeNet calls ``F.relu``, most models
work in place. After normalization every activation call (activations.py) is a module of its own,
so that modules can be replaced and inserted at each. Everything else stays: submodules keep their
names, and float checkpoints load.
"""

from __future__ import annotations

from copy import deepcopy
from inspect import Parameter, signature

import torch
from torch import Tensor, fx, nn

from dynadfq.graph.activations import (
    FunctionalActivation,
    functional_activation,
    is_activation_call,
)
from dynadfq.graph.calls import called_module, calling_block
from dynadfq.graph.plain_layers import replace_by_plain_layers
from dynadfq.graph.trace import UntraceableModel, trace

_ALIASES = (nn.Identity, nn.modules.dropout._DropoutNd)


def normalize(module: nn.Module, example: Tensor) -> fx.GraphModule:
    """Return an eval-mode copy of a float classifier with one module per activation call.

    A repeated call of ``relu`` becomes ``relu_1``, a function called in block ``b`` becomes
    ``b.relu``. A layer that is called several times stays one module.

    Args:
        module: the network; it is not changed.
        example: (B, C, H, W) images. The copy's output on them is checked against the original's:
            equal on a CPU, to 1e-4 elsewhere, where a library may choose other kernels.

    Raises:
        UntraceableModel: the model branches on data, returns something else than one tensor, draws
            random numbers, …
    """
    original = deepcopy(module).eval()
    expected = _output(original, example)
    replace_by_plain_layers(original, example)
    normalized = trace(original, example)
    _remove_assertions(normalized)
    _pass_inputs_by_position(normalized)
    _separate_calls(normalized)
    normalized.graph.lint()
    normalized.recompile()
    normalized.eval()
    _require_equal(_output(normalized, example), expected, type(module).__name__)
    return normalized


def _remove_assertions(model: fx.GraphModule) -> None:
    """Remove assertions, as in timm's BatchNorm, and shapes that nothing reads.

    The assertions held for the example. A layer then has its BatchNorm as the only reader.
    """
    for node in list(model.graph.nodes):
        unread = node.target is getattr and not node.users
        if node.op == "call_function" and (node.target is torch._assert or unread):
            _erase_with_inputs(node)


def _erase_with_inputs(node: fx.Node) -> None:
    """Erase a node, and the nodes that only it reads."""
    inputs = node.all_input_nodes
    node.graph.erase_node(node)
    for read in inputs:
        if not read.users and read.op != "placeholder":
            _erase_with_inputs(read)


def _pass_inputs_by_position(model: fx.GraphModule) -> None:
    """Rewrite ``layer(input=x)`` as ``layer(x)``, which is what readers of the graph expect."""
    for node in model.graph.nodes:
        if node.op == "call_module" and not node.args and node.kwargs:
            first, *_ = signature(model.get_submodule(node.target).forward).parameters.values()
            if first.kind is Parameter.POSITIONAL_OR_KEYWORD and first.name in node.kwargs:
                others = dict(node.kwargs)
                node.args = (others.pop(first.name),)
                node.kwargs = others


def _separate_calls(model: fx.GraphModule) -> None:
    called: set[str] = set()
    for node in list(model.graph.nodes):
        if is_activation_call(node, model):
            _separate_module(model, node, called)
        elif call := functional_activation(node):
            _separate_function(model, node, call)
    for name in called:
        module = model.get_submodule(name)
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]


def _separate_module(model: fx.GraphModule, node: fx.Node, called: set[str]) -> None:
    """Keep a module for its first call, and make a copy for each further call."""
    name = str(node.target)
    module = model.get_submodule(name)
    if getattr(module, "inplace", False):
        _redirect_readers(model, node, node.all_input_nodes[0])
    if name in called:
        if any(True for _ in module.parameters()):
            raise UntraceableModel(
                f"{name}: this {type(module).__name__} has weights and is called several times, so "
                "a copy per call would add keys to the state dict; make one module per call"
            )
        name = _insert(model, name, deepcopy(module))
        node.target = name
    called.add(name)


def _separate_function(model: fx.GraphModule, node: fx.Node, call: FunctionalActivation) -> None:
    """Replace a function by a module of its name in the block that calls it."""
    if call.inplace:
        _redirect_readers(model, node, call.input)
    node.target = _insert(model, calling_block(node) + call.name, call.module)
    node.op = "call_module"
    node.args = (call.input,)
    node.kwargs = {}


def _redirect_readers(model: fx.GraphModule, call: fx.Node, source: fx.Node) -> None:
    """Redirect later readers of an in-place call's input, or of its aliases, to its output."""
    nodes = list(model.graph.nodes)
    later = set(nodes[nodes.index(call) + 1 :])
    source.replace_all_uses_with(call, delete_user_cb=later.__contains__)
    if isinstance(called_module(source, model), _ALIASES):
        _redirect_readers(model, call, source.all_input_nodes[0])


def _insert(model: fx.GraphModule, name: str, module: nn.Module) -> str:
    """Add a module as ``name``, or the first free of ``name_1``, ``name_2``, …; return its name."""
    block, dot, leaf = name.rpartition(".")
    parent = model.get_submodule(block)
    unique = leaf
    number = 0
    while hasattr(parent, unique):
        number += 1
        unique = f"{leaf}_{number}"
    model.add_submodule(block + dot + unique, module)
    return block + dot + unique


def _output(module: nn.Module, example: Tensor) -> Tensor:
    with torch.no_grad():
        output = module(example.clone())  # a model that works in place may write into its input
    if isinstance(output, Tensor):
        return output
    raise UntraceableModel(
        f"{type(module).__name__} returns a {type(output).__name__} in eval mode; wrap it in a "
        "module whose forward returns one (B, classes) tensor of logits"
    )


def _require_equal(output: Tensor, expected: Tensor, name: str) -> None:
    tolerance = 0.0 if expected.device.type == "cpu" else 1e-4
    if not torch.allclose(output, expected, rtol=tolerance, atol=tolerance, equal_nan=True):
        difference = (output - expected).abs().max()
        raise UntraceableModel(
            f"{name}: the traced model's output differs from the original's by up to "
            f"{difference:.3g}; the model writes in place into a tensor that is read elsewhere, or "
            "draws random numbers in eval mode. Workaround: write `x = x + y` for `x += y`, and "
            "`training=self.training` in functional dropout"
        )
