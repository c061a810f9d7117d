"""``dynadfq compare`` on a repository with experiments as DVC keeps them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynadfq.cli.compare import HEAD

Run = Callable[..., Any]
PARAMS = """method: {{name: {method}, images: {{}}}}
quantization: {{weight_bits: {bits}}}
selector: {{candidates: [3, 4, 5]}}
"""


def git(*arguments: str) -> str:
    who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
    done = subprocess.run(["git", *who, *arguments], capture_output=True, check=True, text=True)
    return done.stdout.strip()


def write(method: str, bits: int, top1: float | None) -> None:
    Path("params.yaml").write_text(PARAMS.format(method=method, bits=bits))
    score = {"agreement": 97.0} if top1 is None else {"top1": top1, "agreement": 97.0}
    student = {**score, "bit_flops_percent": 2.5, "mean_activation_bits": 4.0}
    Path("reports").mkdir(exist_ok=True)
    others = {name: score for name in ("teacher", "fixed", "control")}
    metrics = {"method": method, "student": student, **others}
    Path("reports/metrics.json").write_text(json.dumps(metrics))


def commit() -> str:
    git("add", "--all")
    git("commit", "--allow-empty", "--quiet", "--message", "an experiment")
    return git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A commit with two experiments, the second with what it inherited from the first, a third on
    an earlier commit, and a changed working copy."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", "--initial-branch=main")
    earlier = commit()
    write("dynadfq", 5, 99.0)
    old = commit()
    git("update-ref", f"refs/exps/{earlier[:2]}/{earlier[2:]}/old", old)
    base = commit()
    for name, method, bits, top1 in (("low", "dynadfq", 3, 90.0), ("other", "zeroq", 3, 91.5)):
        write(method, bits, top1)
        git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{name}", commit())
    git("reset", "--quiet", "--hard", base)
    git("update-ref", "refs/exps/stash", base)  # DVC's own
    write("hast", 5, None)
    return tmp_path


def test_the_table_has_ten_columns_and_what_differs(run: Run, repository: Path) -> None:
    rows = run("compare", "--json").json
    assert [row["experiment"] for row in rows] == ["working copy", "HEAD", "low", "other"]
    assert [row["student"] for row in rows] == [97.0, 99.0, 90.0, 91.5]
    assert [row["score"] for row in rows] == ["agreement %", *["top-1 %"] * 3]
    keys = {"method.name", "quantization.weight_bits"}
    assert all(set(row["differs"]) == keys for row in rows)
    assert rows[3]["differs"] == {"method.name": "zeroq", "quantization.weight_bits": 3}
    text = run("compare").out
    head = text.splitlines()[0]
    assert len(HEAD) == 10 and all(name in head for name in HEAD)
    assert '  other: method.name="zeroq", quantization.weight_bits=3\n' in text


def test_a_parameter_that_is_not_in_the_file_has_its_default(run: Run, repository: Path) -> None:
    Path("params.yaml").write_text("method: {name: dynadfq}\nquantization: {weight_bits: 5}\n")
    rows = run("compare", "--json").json
    assert [row["differs"]["selector.candidates"] for row in rows] == ["default", *[[3, 4, 5]] * 3]


def test_experiments_and_commits_by_name(run: Run, repository: Path) -> None:
    text = run("compare", "other", "low").out
    assert 'low: method.name="dynadfq"\n' in text and "weight_bits" not in text
    assert [row["experiment"] for row in run("compare main HEAD~2 old --json").json] == [
        "main",
        "HEAD~2",
        "old",
    ]
    assert run("compare HEAD~2 --json").json[0]["student"] is None  # nothing was measured there
    assert "No parameter differs" in run("compare", "old", "main").out
    everything = [row["experiment"] for row in run("compare --all --json").json]
    assert sorted(everything[2:]) == ["low", "old", "other"]
    wrong = run("compare", "othr")
    assert wrong.status == 1 and wrong.err.endswith("commit; did you mean other?\n")


def test_from_a_subfolder_and_outside_a_repository(
    run: Run, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = run("compare", "--json").json
    monkeypatch.chdir(repository / "reports")
    assert run("compare", "--json").json == here
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (repository / ".git").rename(repository / "moved")
    outside = run("compare")
    assert outside.status == 1 and outside.err.count("\n") == 1
    assert outside.err.startswith("dynadfq: experiments are commits of git, and `git ")


def test_a_project_below_the_repository_reads_its_own_files(
    run: Run, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "sub/.dvc").mkdir(parents=True)
    (repository / "sub/.dvc/config").touch()
    monkeypatch.chdir(repository / "sub")
    write("dynadfq", 6, 50.0)
    commit()
    write("dynadfq", 7, 60.0)
    rows = run("compare", "--json").json
    assert [row["student"] for row in rows[:2]] == [60.0, 50.0]
    assert [row["differs"]["quantization.weight_bits"] for row in rows[:2]] == [7, 6]


def test_experiments_of_one_name_on_several_commits_are_all_shown(
    run: Run, repository: Path
) -> None:
    one, other = git("rev-parse", "HEAD"), git("rev-parse", "HEAD~1")
    git("update-ref", f"refs/exps/{other[:2]}/{other[2:]}/low", one)
    found = [row["experiment"] for row in run("compare --all --json").json]
    assert found.count("low") == 2


def test_a_file_that_cannot_be_read_is_named(run: Run, repository: Path) -> None:
    (repository / "params.yaml").write_text("a: [")
    failed = run("compare")
    assert failed.status == 1 and "params.yaml of working copy cannot be read" in failed.err
