"""How programs end: one line on stderr, and an exit status."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.program import one_line

NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "set/manifest.json")
TORCH = (
    "[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried"
)
BREAK = "the program that read the output has ended; run it again"


@pytest.fixture(autouse=True)
def no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DYNADFQ_TRACEBACK", raising=False)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InvalidArgument("seed", "is wrong"), "seed: is wrong"),
        (
            NO_SPACE,
            "set/manifest.json: No space left on device; free some space, then run it again",
        ),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", ".scratch/x"),
            ".scratch/x: Not a directory; a file stands where a folder is needed; move it away, "
            "then run it again",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "w.pth"), "w.pth: No such file"),
        (OSError("no number"), "no number"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), BREAK),
        (MemoryError(), "out of memory; lower the batch size or the size of the images"),
        (
            RuntimeError(f"{TORCH}\nC++ stack"),
            f"out of memory ({TORCH}); lower the batch size or the size of the images",
        ),
        (ArithmeticError("step 3: loss = nan"), "step 3: loss = nan"),
    ],
    ids=repr,
)
def test_an_error_that_a_user_can_act_on_is_one_line(
    capsys: pytest.CaptureFixture[str], error: Exception, expected: str
) -> None:
    with pytest.raises(SystemExit) as ended, one_line("finetune", "run it again"):
        raise error
    assert ended.value.code == 1 and capsys.readouterr().err == f"finetune: {expected}\n"


def test_memory_that_torch_does_not_get(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), one_line("finetune", "run it again"):
        torch.empty(10**15)
    assert capsys.readouterr().err.startswith("finetune: out of memory (")


@pytest.mark.parametrize("error", [RuntimeError("a fault"), KeyError("a fault")], ids=repr)
def test_a_fault_of_the_program_shows_where_it_is(error: Exception) -> None:
    with pytest.raises(type(error), match="a fault"), one_line("finetune", "run it again"):
        raise error


def test_a_traceback_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNADFQ_TRACEBACK", "1")
    with pytest.raises(ValueError, match="wrong"), one_line("finetune", "run it again"):
        raise ValueError("wrong")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_one_line_and_cleans_up(
    capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    cleaned = []
    with pytest.raises(SystemExit) as ended, one_line("finetune", "run it again"):
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        except Exception:  # what libraries do
            pytest.fail("a signal is no error")
        finally:
            cleaned.append(number)
    assert ended.value.code == 128 + number and cleaned == [number]
    assert capsys.readouterr().err == f"finetune: stopped by {number.name}; run it again\n"
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_console_need_not_have_every_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written, encoding="ascii"))
    with pytest.raises(SystemExit), one_line("finetune", "run it again"):
        raise InvalidArgument("weight_bits", "must be in 2 … 8")
    assert written.getvalue() == b"finetune: weight_bits: must be in 2 ? 8\n"


def test_a_closed_pipe_ends_the_program_with_one_line() -> None:
    code = """
from dynadfq.runtime.program import one_line
with one_line("dynadfq", "run it again"):
    while True:
        print("x" * 10_000)
"""
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None and run.stderr is not None
    run.stdout.close()
    assert run.stderr.read() == f"dynadfq: {BREAK}\n"
    assert run.wait() == 1
