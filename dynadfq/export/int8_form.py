"""Integer form on a CPU's 8-bit kernels, compiled: the same logits and bits, sooner."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, fx

from dynadfq.export.byte_graph import ByteGraph
from dynadfq.export.conversion import tensor_shapes
from dynadfq.export.conversion_report import Fact
from dynadfq.export.integer_form import IntegerForm, to_integer_form
from dynadfq.export.kernels import unavailable
from dynadfq.quant.bits import BitAllocation
from dynadfq.quant.model import Student

Engine = Literal["compiled kernels", "kernels", "integer form"]
Network = Callable[..., tuple[Tensor, Tensor]]
ENGINES: tuple[Engine, Engine] = ("compiled kernels", "kernels")
COMPILERS = ("g++", "clang++", "cl")
# Values of images: two of 224 × 224; the maps of more leave a CPU's caches (docs/performance.md).
AT_ONCE = 400_000
CHECK_BATCHES = (3, 1)  # images: a program for any number, and one for a single image


@dataclass(frozen=True)
class Int8Form:
    """A student whose integer form runs on 8-bit kernels, layer by layer where they are exact on
    this machine.

    codes: the integer form that it answers like, bit for bit.
    facts: as of the integer form; layers on a kernel have the form "bytes", the others say why they
        have not.
    engine: "compiled kernels", or what was left where these do not work.
    reason: why the engine is not "compiled kernels"; empty where it is.
    """

    codes: IntegerForm
    network: Network
    facts: tuple[Fact, ...]
    engine: Engine
    reason: str

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalized images to (B, classes) logits."""
        return self.run(images)[0]

    def run(
        self,
        images: Tensor,
        allocation: BitAllocation | None = None,
        multiplier: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) images to (B, classes) logits and (B, S) bits, as ``IntegerForm.run``;
        images are on the CPU.

        The first call with an allocation, and the first with a multiplier, compile once more, for
        single images and for several. Where torch refuses to compile again, the same graph runs as
        it is.
        """
        with (
            torch.inference_mode(False),
            torch.no_grad(),
        ):  # in which mode the caller is would make one more program
            images = images.clone() if images.is_inference() else images
            parts = [
                self.network(*self.codes.arguments(*part, multiplier))
                for part in _pieces(images, allocation)
            ]
        logits, bits = map(torch.cat, zip(*parts, strict=True))
        return logits, bits.float()


def _pieces(
    images: Tensor, allocation: BitAllocation | None
) -> Iterator[tuple[Tensor, BitAllocation | None]]:
    """Some images at a time, each with what is given for it; no result depends on how they are
    grouped.
    """
    each = allocation is not None and len(allocation.bits) == len(images)
    step = max(1, AT_ONCE // max(1, images[:1].numel()))
    for start in range(0, max(1, len(images)), step):
        rows = slice(start, start + step)
        yield (
            images[rows],
            BitAllocation(allocation.bits[rows]) if allocation is not None and each else allocation,
        )


@torch.no_grad()
def to_int8_form(model: Student | IntegerForm, compile: bool = True) -> Int8Form:
    """Return a student's int8 form, which uses this CPU's 8-bit kernels where they are exact.

    Each layer is checked on extreme integers, and the network on noise. What is not exact on this
    machine, or does not compile, stays in integer form; ``facts`` and ``reason`` say why.

    Args:
        model: a student or its integer form; it is not changed.
        compile: use ``torch.compile``, which needs a C++ compiler and takes about a minute for a
            large network; False is slower.

    Returns:
        A module with the logits and bits of the integer form.
    """
    codes = to_integer_form(model) if isinstance(model, Student) else model
    if reason := unavailable():
        return Int8Form(codes, codes.network, codes.facts, "integer form", reason)
    network = deepcopy(codes.network).cpu()
    facts = ByteGraph(network, tensor_shapes(network, codes.input_shape)).run(codes.facts)
    if not any(fact.form == "bytes" for fact in facts):
        return Int8Form(
            codes, codes.network, facts, "integer form", "no layer can use an 8-bit kernel"
        )
    reasons = []
    for engine in ENGINES if compile else ENGINES[1:]:
        try:
            answer = compiled(network) if engine == ENGINES[0] else network
            check(answer, codes)
        except Exception as error:  # whatever a compiler raises: the next engine is still there
            reasons.append(f"{engine}: {_first_line(error)}")
        else:
            return Int8Form(codes, answer, facts, engine, "; ".join(reasons))
    return Int8Form(codes, codes.network, codes.facts, "integer form", "; ".join(reasons))


def compiled(network: fx.GraphModule) -> Network:
    """A graph as compiled loops between its kernels: one program for single images, one for any
    other number.

    Raises:
        RuntimeError: there is no C++ compiler.
    """
    _require_compiler()
    program = torch.compile(network, fullgraph=True, dynamic=False)

    def answer(
        images: Tensor, given: Tensor | None = None, multiplier: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        images = images.detach()  # marks stay on this view
        if given is not None:
            given = given.expand(len(images), -1).contiguous()
        for batched in (images, given):
            if len(images) > 1 and batched is not None:
                torch._dynamo.mark_dynamic(batched, 0)
        try:
            logits, bits = program(images, given, multiplier)
        except torch._dynamo.exc.FailOnRecompileLimitHit:
            logits, bits = network(images, given, multiplier)
        return logits, bits

    return answer


def check(network: Network, codes: IntegerForm) -> None:
    """Compare with integer form on noise, for several images and for one.

    Raises:
        ArithmeticError: a logit or a width differs.
    """
    rng = torch.Generator().manual_seed(0)
    for size in CHECK_BATCHES:
        images = torch.randn(size, *codes.input_shape, generator=rng)
        ours, theirs = network(images, None, None), codes.network(images, None, None)
        if not all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)):
            raise ArithmeticError("its outputs for noise differ from the integer form's")


def _require_compiler() -> None:
    if not (os.environ.get("CXX") or any(map(shutil.which, COMPILERS))):
        raise RuntimeError(
            f"torch.compile needs a C++ compiler ({', '.join(COMPILERS)}, or CXX), and finds none"
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
