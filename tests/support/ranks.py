"""Ranks of a run as forks of the test's process: torch, which takes seconds to import, is there
already."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing.connection import Connection
from typing import Any

import torch

from dynadfq.runtime import distributed


def run_ranks(count: int, work: Callable[[], Any], join: bool = True) -> list[Any]:
    """What ``work`` returns in each of ``count`` ranks, which exchange tensors by gloo once they
    have joined."""
    port = _free_port()
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    ranks = [
        context.Process(target=_rank, args=(n, count, port, work, join, pipes[n][1]))
        for n in range(count)
    ]
    for rank in ranks:
        rank.start()
    for _, ours in pipes:
        ours.close()
    answers = [_received(theirs) for theirs, _ in pipes]
    for rank in ranks:
        rank.join()
    errors = [answer for answer in answers if isinstance(answer, str)]
    assert not errors, "\n".join(errors)
    return [answer[0] for answer in answers]


def _received(pipe: Connection) -> Any:
    try:
        return pickle.loads(pipe.recv_bytes())
    except EOFError:
        return "the rank ended without an answer"


def _rank(
    number: int, count: int, port: int, work: Callable[[], Any], join: bool, answer: Connection
) -> None:
    os.environ.update(
        RANK=str(number),
        LOCAL_RANK=str(number),
        WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    torch.set_num_threads(1)
    try:
        with distributed.joined() if join else nullcontext():
            result: Any = (work(),)
    except BaseException:
        result = traceback.format_exc()
    answer.send_bytes(pickle.dumps(result))
    answer.close()
    os._exit(0)


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port: int = place.getsockname()[1]
        return port
