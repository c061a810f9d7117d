"""What is shown while long work runs."""

from __future__ import annotations

import io
import json
import sys

import pytest
import torch

from dynadfq.runtime import progress as module
from dynadfq.runtime.progress import NonFiniteLoss, Progress, has_bar, require_finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_term_is_named_with_its_step(bad: float) -> None:
    require_finite({"label": torch.tensor(1.0)}, 3)
    with pytest.raises(
        NonFiniteLoss, match=rf"step 12: budget = {bad}; lower the learning rate"
    ) as error:
        require_finite({"label": torch.tensor(1.0), "budget": torch.tensor(bad)}, 12)
    assert "label" not in str(error.value)


def test_without_a_terminal_progress_is_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("finetune", total=3, done=1, interval=1e9) as progress:
        progress.step(loss=0.25)
        progress.step(loss=0.125)
    lines = [json.loads(line) for line in io.StringIO(capsys.readouterr().err)]
    assert lines == [
        {"stage": "finetune", "step": 3, "of": 3, "seconds_left": 0, "finetune/loss": 0.125}
    ]


def test_the_first_line_comes_soon_and_estimates_the_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with Progress("finetune", total=1000, done=10) as progress:
        for _ in range(20):
            now += 2.0
            progress.step()
    lines = [json.loads(line) for line in io.StringIO(capsys.readouterr().err)]
    assert [(line["step"], line["seconds_left"]) for line in lines] == [
        (12, 2 * (1000 - 12)),
        (23, 2 * (1000 - 23)),
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
@pytest.mark.parametrize(("columns", "expected"), [(0, False), (80, True)])
def test_a_bar_needs_a_terminal_with_a_width(
    monkeypatch: pytest.MonkeyPatch, columns: int, expected: bool
) -> None:
    import fcntl
    import os
    import pty
    import struct
    import termios

    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert has_bar() is expected
    os.close(controller)
