"""Symbolic tracing that keeps layers and activations whole, keeps every weight, and says what stood
in its way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

from torch import Tensor, fx, nn

from dynadfq.graph.activations import is_activation
from dynadfq.graph.shape_conditions import Conditions
from dynadfq.ops.layers import layer_kind


class UntraceableModel(ValueError):
    """A model that `torch.fx` cannot follow, or whose traced form computes something else."""


def trace(
    module: nn.Module, example: Tensor, leaf_modules: tuple[type[nn.Module], ...] = ()
) -> fx.GraphModule:
    """The graph of a module, which shares its layers and has the same `state_dict` keys, used or
    not.

    Conditions on sizes are answered as for images like ``example``, (B, C, H, W).
    """
    tracer = _Tracer(leaf_modules, Conditions(module, example))
    try:
        with _images_alone(module):
            graph = tracer.trace(module)
    except Exception as error:
        raise UntraceableModel(_explanation(module, error, tracer.failed_in)) from error
    traced = fx.GraphModule(module, graph, class_name=type(module).__name__)
    _keep_unused(traced, module)
    return traced


class _Tracer(fx.Tracer):
    """Keeps layers, activations and `leaf_modules` whole; remembers the innermost submodule in
    which tracing failed.
    """

    def __init__(self, leaf_modules: tuple[type[nn.Module], ...], conditions: Conditions) -> None:
        super().__init__()
        self.leaf_modules, self.conditions = leaf_modules, conditions
        self.failed_in: nn.Module | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = isinstance(m, self.leaf_modules) or is_activation(m) or layer_kind(m) is not None
        return whole or bool(super().is_leaf_module(m, module_qualified_name))

    def to_bool(self, obj: fx.Proxy) -> bool:
        answer = self.conditions.answer(obj.node)
        return bool(super().to_bool(obj)) if answer is None else answer

    def call_module(
        self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed_in = self.failed_in or m
            raise


@contextmanager
def _images_alone(module: nn.Module) -> Iterator[None]:
    """A forward that takes images and nothing else: further arguments (masks, …) keep their
    defaults.
    """
    original = type(module)
    if len(signature(original.forward).parameters) > 2:  # self and the images
        alone = {"forward": lambda self, images: original.forward(self, images)}
        module.__class__ = type(original.__name__, (original,), alone)
    try:
        yield
    finally:
        module.__class__ = original


def _explanation(module: nn.Module, error: Exception, failed_in: nn.Module | None) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    without_branches = "give it a forward whose control flow does not depend on the data"
    if failed_in is None:
        return f"{type(module).__name__} cannot be traced by torch.fx: {reason}. Way out: {without_branches}"
    block = type(failed_in).__name__
    return (
        f"{type(module).__name__} cannot be traced by torch.fx: {reason} (in a {block}). Way out: pass "
        f"leaf_modules=({block},) to keep that block whole and in float32, or {without_branches}"
    )


def _keep_unused(traced: fx.GraphModule, original: nn.Module) -> None:
    """Puts back what eval mode does not call (auxiliary heads), and makes only the original's
    buffers persistent.

    `fx.GraphModule` copies what the graph reads and nothing else, and registers each tensor as a
    persistent buffer.
    """
    copied = dict(traced.named_modules(remove_duplicate=False))
    for name, module in original.named_modules(remove_duplicate=False):
        copy = copied.get(name)
        if copy is None:
            traced.add_submodule(name, module)
        elif copy is not module:
            copy._parameters.update(module._parameters)
            copy._buffers.update(module._buffers)
            persistent = module._buffers.keys() - module._non_persistent_buffers_set
            copy._non_persistent_buffers_set = set(copy._buffers.keys() - persistent)
