"""The examples in README.md and docs/ run, or fit the signatures of what they call."""

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
import yaml

import dynadfq

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NO_PARAMETERS = {
    "teacher.json",
    "export.json",
    "similarity.safetensors",
    "selector.choice",
    "teacher.preprocessing",
}
SLOW = {"export": ["--help"], "bench": ["--batch", "1", "--repeats", "2"]}


def blocks(page: Path, info: str) -> list[str]:
    """The page's code blocks with this info string."""
    return re.findall(rf"^```{info}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


@pytest.fixture
def place(models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the examples' paths exist."""
    (tmp_path / "artifacts").mkdir()
    for name in ("student", "teacher", "synthetic"):
        (tmp_path / "artifacts" / name).symlink_to(getattr(models, name))
    (tmp_path / "photographs").symlink_to(models.images)
    (tmp_path / "photographs-by-class").mkdir()
    (tmp_path / "photographs-by-class" / "cat").symlink_to(models.images)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_run(place: Path, run: Callable[..., Any]) -> None:
    [block] = blocks(ROOT / "docs/command-line.md", "sh")
    lines = block.splitlines()
    assert len(lines) == 7
    for line in lines:
        program, *arguments = shlex.split(line, comments=True)
        done = run(*arguments, *SLOW.get(arguments[0], []))
        assert program == "dynadfq" and done.status == 0 and done.out, (line, done.err)
    assert (place / "artifacts/cheaper/card.md").is_file()


def test_the_readme_runs(place: Path) -> None:
    _, code = blocks(README, "python")  # the first: tests/deploy
    for argument, small in {"num_images": 8, "iterations": 1, "steps": 1}.items():
        code = re.sub(rf"{argument}=\d+", f"{argument}={small}", code)
    names: dict[str, Any] = {}
    exec(code, names)  # the README's own text
    assert len(names["result"].per_image) == len(names["images"]) == 8
    assert dynadfq.load_student("student").scheme == names["student"].scheme


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= 700


def test_the_use_of_a_student_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = torch.Generator().manual_seed(0)
    names: dict[str, Any] = {"images": torch.randn(3, 3, 16, 16, generator=rng)}
    for code in blocks(ROOT / "docs/python.md", "python run"):
        exec(code, names)  # the page's own text
    assert names["student"].multiplier == 0.0
    assert names["bits"].shape[0] == 3
    assert dynadfq.load_student("cheaper").multiplier == names["setting"].multiplier != 0.0
    assert "tensor(" in capsys.readouterr().out


def test_every_call_of_the_library_fits_its_signature() -> None:
    calls = [
        node
        for page in PAGES
        for block in blocks(page, "python(?: run)?")
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("dynadfq.")
    ]
    assert len(calls) >= 15
    for call in calls:
        function: Any = dynadfq
        for name in ast.unparse(call.func).split(".")[1:]:
            function = getattr(function, name)
        keywords = {word.arg: word.value for word in call.keywords if word.arg}
        signature = inspect.signature(function)
        bound = signature.bind(*call.args, **keywords)
        kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
        misspelt = [
            name for name in bound.arguments if kinds[name] is inspect.Parameter.VAR_KEYWORD
        ]
        assert not misspelt, ast.unparse(call)


def test_parameters_have_their_present_names() -> None:
    tables = (ROOT / "docs/params.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^\| `([\w.]+)` \|", tables, re.M))
    groups = {key.partition(".")[0] for key in known if "." in key}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"`([a-z_]+(?:\.[a-z_0-9]+)+)[:`]", text)
        named = [key for key in named if key.partition(".")[0] in groups]
        named += re.findall(r"-S '?\+*([\w.]+\.\w+)=", text)
        unknown = {
            key for key in named if not any(f"{one}.".startswith(f"{key}.") for one in known)
        }
        assert unknown <= NO_PARAMETERS, page


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == dynadfq.__version__


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    missing = [page for page in pages - {"README.md"} if f"]({page})" not in index]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing
