"""The processes of one run, called ranks, as torchrun starts them. In a single process everything
here is trivial.

CPU tensors travel by gloo, those of a GPU by nccl. A function that needs all ranks is called by all
of them, in the same order.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

PATIENCE = timedelta(
    days=7
)  # how long a rank waits for another that is at work; one that has ended is noticed at once

Given = TypeVar("Given")
Made = TypeVar("Made")
_waiting: dist.ProcessGroup | None = (
    None  # for waits that last as long as the work does; set by `joined`
)


class RankLost(RuntimeError):
    """Another rank has ended or cannot be reached; what went wrong is its to tell."""


class Part(NamedTuple):
    """One rank's rows of a batch that all ranks share: slices of one length, in rank order."""

    rank: int = 0
    ranks: int = 1

    def rows(self, count: int) -> slice:
        """Where the rank's ``count`` rows stand in the whole batch.

        >>> Part(1, 3).rows(2)
        slice(2, 4, None)
        """
        return slice(self.rank * count, (self.rank + 1) * count)

    def of(self, batch: Tensor) -> Tensor:
        """(B, …) of the whole batch to the rank's own rows, (B / ranks, …)."""
        return batch[self.rows(len(batch) // self.ranks)]

    def indices(self, chosen: Tensor, count: int) -> Tensor:
        """(n,) indices into the whole batch to those of the rank's own ``count`` rows, counted from
        its first.

        >>> Part(1, 2).indices(torch.tensor([3, 0, 2]), 2)
        tensor([1, 0])
        """
        own = self.rows(count)
        return (
            chosen
            if self.ranks == 1
            else chosen[(chosen >= own.start) & (chosen < own.stop)] - own.start
        )


WHOLE = Part()


@contextmanager
def joined() -> Iterator[None]:
    """Join the ranks that torchrun started, for the block; a process that it did not start stays
    alone.

    Raises:
        RankLost: the others cannot be reached.
    """
    global _waiting
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(local_rank() % torch.cuda.device_count())
    with _reaching():
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
        _waiting = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=PATIENCE))
        dist.barrier(
            _waiting
        )  # else one that ends at once breaks the connections that another still makes
    try:
        yield
    finally:
        _waiting = None
        if not (
            gpu and sys.exc_info()[0]
        ):  # nccl may wait for the others before it ends; a rank that failed must not
            dist.destroy_process_group()


def part() -> Part:
    """This process among the ranks."""
    return Part(dist.get_rank(), dist.get_world_size()) if _waiting else WHOLE


def rank() -> int:
    """Number of this process, from 0; the first one writes what all share."""
    return part().rank


def world_size() -> int:
    """How many processes work together, on all machines."""
    return part().ranks


def local_rank() -> int:
    """Number of this process on its machine, from 0: which GPU it takes."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def barrier() -> None:
    """Return when all ranks have come here, however long one of them works."""
    if _waiting:
        with _reaching():
            dist.barrier(_waiting)


def total(value: Tensor) -> Tensor:
    """Sum over the ranks of a tensor without gradient; the same number everywhere."""
    if not _waiting:
        return value
    summed = value.detach().clone()
    with _reaching():
        dist.all_reduce(summed)
    return summed


def mean(value: Tensor) -> Tensor:
    """Mean over the ranks of a tensor without gradient; of a single process, the tensor itself."""
    return total(value) / world_size() if _waiting else value


def means(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Means over the ranks of named scalars, which all ranks name alike."""
    if not _waiting:
        return dict(values)
    return dict(
        zip(
            values,
            mean(torch.stack([value.detach().double() for value in values.values()])),
            strict=True,
        )
    )


def gather(rows: Tensor) -> Tensor:
    """Every rank's (b, …) rows, in rank order: (b · ranks, …), without gradient. All ranks have the
    same b.
    """
    if not _waiting:
        return rows
    own = rows.detach().contiguous()
    parts = [torch.empty_like(own) for _ in range(world_size())]
    with _reaching():
        dist.all_gather(parts, own)
    return torch.cat(parts)


def in_turns(work: Callable[[Given], Made], items: Iterable[Given]) -> list[Made]:
    """What ``work`` makes of each item, in order, on every rank; rank r does items r, r + ranks,
    and so on.

    All ranks walk the same items. What is made of them travels as it is: tensors are to be on the
    CPU.
    """
    own = [work(item) for number, item in enumerate(items) if number % world_size() == rank()]
    if not _waiting:
        return own
    parts: list[list[Made]] = [[] for _ in range(world_size())]
    with _reaching():
        dist.all_gather_object(parts, own, group=_waiting)
    return [
        parts[number % len(parts)][number // len(parts)] for number in range(sum(map(len, parts)))
    ]


@contextmanager
def first_rank_first() -> Iterator[None]:
    """The first rank runs the block, and then the others, who find what it left."""
    if rank() > 0:
        barrier()
    yield
    if rank() == 0:
        barrier()


def from_first(make: Callable[[], Made]) -> Made:
    """What the first rank makes, on all of them; the others wait for it. Tensors are to be on the
    CPU.
    """
    if not _waiting:
        return make()
    box = [make() if rank() == 0 else None]
    with _reaching():
        dist.broadcast_object_list(box, group=_waiting)
    return box[0]  # type: ignore[return-value]


def share_state(module: nn.Module) -> None:
    """Give every rank the parameters and buffers that the first one's module has."""
    if _waiting:
        state = from_first(
            lambda: {name: tensor.cpu() for name, tensor in module.state_dict().items()}
        )
        module.load_state_dict(state)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their means over the ranks: those of the whole batch, if its parts are
    of one size.

    All travel as one tensor, after the backward pass. ``DistributedDataParallel`` would send the
    first while the last are computed, but rules out ``torch.autograd.grad``, which perturbed images
    and class activation maps need.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not _waiting or not gradients:
        return
    flat = mean(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, values in zip(
        gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True
    ):
        gradient.copy_(values.view(gradient.shape))


@contextmanager
def _reaching() -> Iterator[None]:
    """Tell a lost connection from an error of this rank's own."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(
            f"rank {os.environ.get('RANK', '0')} cannot reach the others: {error}"
        ) from error
