"""Symbolic tracing by torch.fx that keeps layers and activations whole, and keeps every weight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

from torch import Tensor, fx, nn

from dynadfq.graph.activations import is_activation
from dynadfq.graph.known_sizes import KnownSizes
from dynadfq.ops.layers import layer_kind
from dynadfq.runtime.errors import first_line
from dynadfq.runtime.source_lines import users_line

KEEP_FLOAT = "keep_float"  # attribute of a user's class of modules that are kept whole


class UntraceableModel(ValueError):
    """A model that ``torch.fx`` cannot follow, or whose traced form computes something else."""


def trace(module: nn.Module, example: Tensor) -> fx.GraphModule:
    """Return the graph of a module, with the same layers and the same ``state_dict`` keys.

    Submodules whose class says ``keep_float = True`` are kept whole.

    Args:
        module: the network.
        example: (B, C, H, W) images. Sizes, except of the batch, are those of such images, and
            conditions on sizes are evaluated.

    Raises:
        UntraceableModel: torch.fx cannot follow the module.
    """
    tracer = _Tracer(KnownSizes(module, example))
    try:
        with _only_images(module):
            graph = tracer.trace(module)
    except Exception as error:
        raise UntraceableModel(_explanation(module, error, tracer.failed_in)) from error
    traced = fx.GraphModule(module, graph, class_name=type(module).__name__)
    _keep_unused(traced, module)
    return traced


class _Tracer(fx.Tracer):
    """Keeps layers and activations whole, and records where tracing failed."""

    def __init__(self, sizes: KnownSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.failed_in: nn.Module | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        kept = getattr(m, KEEP_FLOAT, False) is True
        whole = kept or is_activation(m) or layer_kind(m) is not None
        return whole or bool(super().is_leaf_module(m, module_qualified_name))

    def create_proxy(self, *args: Any, **kwargs: Any) -> Any:
        """Return what stands for a node in the forward: a number for a size that is known."""
        proxy = super().create_proxy(*args, **kwargs)
        number = self.sizes.number(proxy.node)
        if number is None:
            return proxy
        proxy.node.graph.erase_node(proxy.node)
        return number

    def to_bool(self, obj: fx.Proxy) -> bool:
        answer = self.sizes.answer(obj.node)
        return bool(super().to_bool(obj)) if answer is None else answer

    def call_module(
        self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed_in = self.failed_in or m  # the innermost one is the first to fail
            raise


@contextmanager
def _only_images(module: nn.Module) -> Iterator[None]:
    """Make the forward take images alone; other arguments (masks, …) keep their defaults."""
    original = type(module)
    if len(signature(original.forward).parameters) > 2:  # self and the images
        alone = {"forward": lambda self, images: original.forward(self, images)}
        module.__class__ = type(original.__name__, (original,), alone)
    try:
        yield
    finally:
        module.__class__ = original


def _explanation(module: nn.Module, error: Exception, failed_in: nn.Module | None) -> str:
    line = users_line(error)
    sentence = first_line(error).partition(". ")[0].rstrip(".")
    reason = sentence + (f", at {line}" if line else "")
    rewrite = "give it a forward whose control flow does not depend on the data"
    name = type(module).__name__
    if failed_in is None:
        return f"{name} cannot be traced by torch.fx: {reason}. Workaround: {rewrite}"
    block = type(failed_in).__name__
    return (
        f"{name} cannot be traced by torch.fx: {reason} (in a {block}). Workaround: {rewrite}, or "
        f"set {KEEP_FLOAT} = True in class {block}, which keeps that block whole and in float32"
    )


def _keep_unused(traced: fx.GraphModule, original: nn.Module) -> None:
    """Restore auxiliary heads and buffer settings that ``fx.GraphModule`` does not copy."""
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
