"""One module per activation call: the float model, rewritten so that swapping and inserting modules
misses nothing.

torchvision's ResNets call one `nn.ReLU` several times, GoogLeNet calls `F.relu`, most models work
in place. `normalize` traces the model in eval mode with `torch.fx` and gives every activation call
(activations.py) its own module that does not work in place. Everything else stays as it was:
submodules keep their names, and float checkpoints load.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, fx, nn

from dynadfq.graph.activations import (
    FunctionalActivation,
    functional_activation,
    is_activation_call,
)
from dynadfq.graph.plain_layers import write_out_layers
from dynadfq.graph.trace import UntraceableModel, trace

_ALIASES = (nn.Identity, nn.modules.dropout._DropoutNd)


def normalize(
    module: nn.Module, example: Tensor, leaf_modules: Sequence[type[nn.Module]] = ()
) -> fx.GraphModule:
    """An eval-mode copy of a float classifier in which each activation call is a module of its own.

    `example` is one batch of inputs (B, C, H, W); the copy's output on it must equal the original's
    (bit for bit on a CPU, to 1e-4 elsewhere, where a library may choose another kernel). Submodules
    of the types `leaf_modules` are kept
    whole: what they compute inside stays float32. A repeated call of `relu` becomes `relu_1`, a
    function called in block `b` becomes `b.relu`; a layer that is called several times stays one
    module. `module` itself is not changed.

    Raises:
        UntraceableModel: the model branches on data, returns something else than one tensor, draws
            random numbers, …
    """
    original = deepcopy(module).eval()
    expected = _output(original, example)
    write_out_layers(original, example)
    normalized = trace(original, example, tuple(leaf_modules))
    _separate_calls(normalized)
    normalized.graph.lint()
    normalized.recompile()
    normalized.eval()
    _check_equal(_output(normalized, example), expected, type(module).__name__)
    return normalized


def _separate_calls(model: fx.GraphModule) -> None:
    """Gives every activation call a module of its own that does not work in place."""
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
    """The first call of a module keeps it, each further one gets a copy."""
    name, module = str(node.target), model.get_submodule(str(node.target))
    if getattr(module, "inplace", False):
        _write_back(model, node, node.all_input_nodes[0])
    if name in called:
        _refuse_weights(name, module)
        node.target = name = _insert(model, name, deepcopy(module))
    called.add(name)


def _separate_function(model: fx.GraphModule, node: fx.Node, call: FunctionalActivation) -> None:
    """A function becomes a module, named after the function, in the block that calls it."""
    if call.inplace:
        _write_back(model, node, call.input)
    blocks = list((node.meta.get("nn_module_stack") or {}).values())
    prefix = f"{blocks[-1][0]}." if blocks and blocks[-1][0] else ""
    node.target = _insert(model, prefix + call.name, call.module)
    node.op, node.args, node.kwargs = "call_module", (call.input,), {}


def _write_back(model: fx.GraphModule, call: fx.Node, source: fx.Node) -> None:
    """What an in-place call does to others: later readers of its input, or of what that aliases,
    read its output.
    """
    nodes = list(model.graph.nodes)
    later = set(nodes[nodes.index(call) + 1 :])
    source.replace_all_uses_with(call, delete_user_cb=later.__contains__)
    if source.op == "call_module" and isinstance(model.get_submodule(str(source.target)), _ALIASES):
        _write_back(model, call, source.all_input_nodes[0])


def _insert(model: fx.GraphModule, name: str, module: nn.Module) -> str:
    """Adds a module under `name`, or under the first free of `name_1`, `name_2`, …; returns the
    name it got.
    """
    block, _, leaf = name.rpartition(".")
    prefix = f"{block}." if block else ""
    number, unique = 0, leaf
    while hasattr(model.get_submodule(block), unique):
        number += 1
        unique = f"{leaf}_{number}"
    model.add_submodule(prefix + unique, module)
    return prefix + unique


def _refuse_weights(name: str, module: nn.Module) -> None:
    if any(True for _ in module.parameters()):
        raise UntraceableModel(
            f"{name}: this {type(module).__name__} has weights and is called several times, so a copy per call would "
            "add keys to the state dict; make one module per call"
        )


def _output(module: nn.Module, example: Tensor) -> Tensor:
    with torch.no_grad():
        output = module(example.clone())  # a model that works in place may write into its input
    if isinstance(output, Tensor):
        return output
    raise UntraceableModel(
        f"{type(module).__name__} returns a {type(output).__name__} in eval mode; wrap it in a module whose forward "
        "returns one (B, classes) tensor of logits"
    )


def _check_equal(output: Tensor, expected: Tensor, name: str) -> None:
    tolerance = 0.0 if expected.device.type == "cpu" else 1e-4
    if not torch.allclose(output, expected, rtol=tolerance, atol=tolerance, equal_nan=True):
        raise UntraceableModel(
            f"{name}: the traced model's output differs from the original's by up to "
            f"{(output - expected).abs().max():.3g}; the model writes in place into a tensor that is read elsewhere, "
            "or draws random numbers in eval mode. Way out: write `x = x + y` for `x += y`, and "
            "`training=self.training` in functional dropout"
        )
