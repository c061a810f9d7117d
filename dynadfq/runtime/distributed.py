"""Communication between the processes (ranks) of one run.

torchrun starts them; a single process is the only rank and communicates nothing. CPU tensors are
sent by gloo, those of a GPU by nccl. All ranks must call a function that exchanges something, in
the same order.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

# How long a rank waits for one that is still working; one that has ended is noticed at once.
PATIENCE = timedelta(days=7)

Item = TypeVar("Item")
Result = TypeVar("Result")
_waiting: dist.ProcessGroup | None = None  # for waits as long as the work; set by `joined`


class RankUnreachable(RuntimeError):
    """Another rank has ended or cannot be reached; its own error has the cause."""


class BatchPart(NamedTuple):
    """One rank's part of a batch; parts have equal numbers of rows, in rank order."""

    rank: int = 0
    ranks: int = 1

    def rows(self, count: int) -> slice:
        """Return the place of the rank's ``count`` rows in the whole batch.

        >>> BatchPart(1, 3).rows(2)
        slice(2, 4, None)
        """
        return slice(self.rank * count, (self.rank + 1) * count)

    def of(self, batch: Tensor) -> Tensor:
        """Return the rank's rows, (B / ranks, ...), of a whole batch, (B, ...)."""
        return batch[self.rows(len(batch) // self.ranks)]

    def indices(self, chosen: Tensor, count: int) -> Tensor:
        """Return the (n,) indices into the whole batch that are among the rank's ``count`` rows.

        They are counted from the first of these rows.

        >>> BatchPart(1, 2).indices(torch.tensor([3, 0, 2]), 2)
        tensor([1, 0])
        """
        if self.ranks == 1:
            return chosen
        own = self.rows(count)
        is_own = (chosen >= own.start) & (chosen < own.stop)
        indices: Tensor = chosen[is_own] - own.start
        return indices


WHOLE = BatchPart()


@contextmanager
def joined() -> Iterator[None]:
    """Connect this process with the other ranks of torchrun for the block.

    A process that torchrun did not start remains the only rank.

    Raises:
        RankUnreachable: the others cannot be reached.
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
        # Else a rank that ends at once breaks connections that another is still making.
        dist.barrier(_waiting)
    try:
        yield
    finally:
        _waiting = None
        failed = sys.exc_info()[0] is not None
        if not (gpu and failed):  # nccl may wait for the others here; a rank that failed must not
            dist.destroy_process_group()


def part() -> BatchPart:
    """Return the part of each batch that belongs to this rank."""
    return BatchPart(dist.get_rank(), dist.get_world_size()) if _waiting else WHOLE


def rank() -> int:
    """Return the number of this process, from 0. Rank 0 writes the results."""
    return part().rank


def world_size() -> int:
    """Return the number of processes on all machines together."""
    return part().ranks


def local_rank() -> int:
    """Return the number of this process on its machine, from 0: the GPU that it uses."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def barrier() -> None:
    """Wait until all ranks have called this, however long that takes."""
    if _waiting:
        with _reaching():
            dist.barrier(_waiting)


def total(value: Tensor) -> Tensor:
    """Return the sum of a tensor over the ranks, without gradient; all ranks get the same bits."""
    if not _waiting:
        return value
    summed = value.detach().clone()
    with _reaching():
        dist.all_reduce(summed)
    return summed


def mean(value: Tensor) -> Tensor:
    """Return the mean of a tensor over the ranks, without gradient; one rank gets it unchanged."""
    return total(value) / world_size() if _waiting else value


def means(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the means over the ranks of scalars by name; all ranks have the same names."""
    if not _waiting:
        return dict(values)
    stacked = torch.stack([value.detach().double() for value in values.values()])
    return dict(zip(values, mean(stacked), strict=True))


def gather(rows: Tensor) -> Tensor:
    """Return all ranks' (b, ...) rows in rank order, (b · ranks, ...), without gradient.

    All ranks have the same b.
    """
    if not _waiting:
        return rows
    own = rows.detach().contiguous()
    parts = [torch.empty_like(own) for _ in range(world_size())]
    with _reaching():
        dist.all_gather(parts, own)
    return torch.cat(parts)


def in_turns(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return the result of ``work`` for each item, in order, on every rank.

    Rank r works on items r, r + ranks, and so on.

    Args:
        work: its results are pickled; tensors in them must be on the CPU.
        items: the same on all ranks.
    """
    own = [work(item) for number, item in enumerate(items) if number % world_size() == rank()]
    if not _waiting:
        return own
    parts: list[list[Result]] = [[] for _ in range(world_size())]
    with _reaching():
        dist.all_gather_object(parts, own, group=_waiting)
    count = sum(map(len, parts))
    return [parts[number % len(parts)][number // len(parts)] for number in range(count)]


@contextmanager
def first_rank_first() -> Iterator[None]:
    """Run the block on rank 0 first; the other ranks then find the files that it wrote."""
    if rank() > 0:
        barrier()
    yield
    if rank() == 0:
        barrier()


@contextmanager
def on_first_rank(context: Callable[[], AbstractContextManager[object]]) -> Iterator[None]:
    """Enter a context on rank 0 alone, such as a lock, before any rank enters the block."""
    with context() if rank() == 0 else nullcontext():
        barrier()
        yield


def from_first(make: Callable[[], Result]) -> Result:
    """Return rank 0's result of ``make`` on all ranks. Tensors in it must be on the CPU."""
    if not _waiting:
        return make()
    box = [make() if rank() == 0 else None]
    with _reaching():
        dist.broadcast_object_list(box, group=_waiting)
    return box[0]  # type: ignore[return-value]


def share_state(module: nn.Module) -> None:
    """Set a module's parameters and buffers to those of rank 0."""
    if _waiting:
        state = from_first(
            lambda: {name: tensor.cpu() for name, tensor in module.state_dict().items()}
        )
        module.load_state_dict(state)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their means over the ranks, which are those of the whole batch.

    They are sent as one tensor, after the backward pass. ``DistributedDataParallel`` would overlap
    the two, but rules out ``torch.autograd.grad``, which perturbed images and class activation maps
    need.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not _waiting or not gradients:
        return
    flat = mean(torch.cat([gradient.flatten() for gradient in gradients]))
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, values in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(values.view(gradient.shape))


@contextmanager
def _reaching() -> Iterator[None]:
    """Raise `RankUnreachable` for a lost connection."""
    try:
        yield
    except RuntimeError as error:
        rank_number = os.environ.get("RANK", "0")
        raise RankUnreachable(f"rank {rank_number} cannot reach the others: {error}") from error
