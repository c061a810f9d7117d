"""The README's examples: those of a student run, those that train are checked against the
signatures."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dynadfq

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
USING = README.split("## Using a student")[1].split("\n## ")[0]
SLOW = {"export": ["--help"], "bench": ["--batch", "1", "--repeats", "2"]}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


@pytest.fixture
def place(models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the example's paths exist."""
    (tmp_path / "artifacts").mkdir()
    for name in ("student", "teacher", "synthetic"):
        (tmp_path / "artifacts" / name).symlink_to(getattr(models, name))
    (tmp_path / "photographs").symlink_to(models.images)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_run(place: Path, run: Callable[..., Any]) -> None:
    lines = [line for block in blocks(USING, "sh") for line in block.splitlines()]
    assert len(lines) == 6
    for line in lines:
        program, *arguments = shlex.split(line, comments=True)
        done = run(*arguments, *SLOW.get(arguments[0], []))
        assert program == "dynadfq" and done.status == 0 and done.out, (line, done.err)
    assert (place / "artifacts/cheaper/card.md").is_file()


def test_the_python_example_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [code] = blocks(USING, "python")
    names = {"images": torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))}
    exec(code, names)  # the README's own text
    assert names["student"].multiplier == 0.0 and names["bits"].shape[0] == 3
    assert dynadfq.load_student("cheaper").multiplier == names["setting"].multiplier != 0.0
    assert "tensor(" in capsys.readouterr().out


def test_every_call_of_the_library_fits_its_signature() -> None:
    calls = [
        node
        for block in blocks(README, "python")
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("dynadfq.")
    ]
    assert len(calls) >= 8
    for call in calls:
        signature = inspect.signature(
            getattr(dynadfq, ast.unparse(call.func).removeprefix("dynadfq."))
        )
        bound = signature.bind(
            *call.args, **{keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        )
        unnamed = {
            kind.name for kind in signature.parameters.values() if kind.kind is kind.VAR_KEYWORD
        }
        assert not unnamed & set(bound.arguments), ast.unparse(call)
