"""Laws of dvc.yaml that need no run."""

from __future__ import annotations

import re
from typing import Any

import pytest
from dvc.utils.serialize import load_yaml
from imports import ROOT, code_dependencies, rewritten
from project import STAGES

from stages import imports

GRAPH: dict[str, dict[str, Any]] = load_yaml(ROOT / "dvc.yaml")["stages"]
LABELLED = {"teacher", "evaluate"}


def paths(entries: list[Any]) -> dict[str, dict[str, Any]]:
    """Entries of a list in dvc.yaml, with and without options."""
    return {
        k: v
        for entry in entries
        for k, v in (entry if isinstance(entry, dict) else {entry: {}}).items()
    }


@pytest.fixture
def everything_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts as plumbing is followed too; the package's own file imports lazily."""
    # real_data is the one method that may read labelled data; tests/methods/test_real_data.py holds
    # the others to it.
    monkeypatch.setattr(
        imports, "PLUMBING", ("dynadfq/__init__.py", "dynadfq/methods/real_data.py")
    )


def test_the_stages_are_those_of_the_design():
    assert list(GRAPH) == STAGES
    assert all(stage["desc"] for stage in GRAPH.values())


@pytest.mark.parametrize("stage", STAGES)
def test_declared_code_is_what_a_stage_imports(stage):
    declared = [path for path in GRAPH[stage]["deps"] if path.startswith(("dynadfq/", "stages/"))]
    assert sorted(declared) == code_dependencies(stage), "`make deps` writes them"
    assert len(declared) == len(set(declared))
    assert all((ROOT / path.replace("${method.name}", "dynadfq")).is_file() for path in declared)


def test_make_deps_has_nothing_to_write():
    text = (ROOT / "dvc.yaml").read_text()
    assert rewritten(text) == text
    without = re.sub(r"      - dynadfq/losses\.py\n", "", text)
    assert without != text == rewritten(without)


@pytest.mark.usefixtures("everything_imported")
def test_labelled_data_enters_in_two_stages_only():
    reading = {
        stage
        for stage in STAGES
        if any(path.startswith("dynadfq/data/") for path in code_dependencies(stage))
    }
    assert reading == LABELLED
    assert {stage for stage, content in GRAPH.items() if "data" in content["params"]} == LABELLED
    for stage, content in GRAPH.items():
        assert not [key for key in content["params"] if key.startswith("data.")], stage
        assert not [
            path for path in content["deps"] if path == "data" or path.startswith("data/")
        ], stage


@pytest.mark.usefixtures("everything_imported")
def test_an_edited_quantizer_leaves_the_images():
    for stage in ("teacher", "similarity", "synthesize"):
        found = code_dependencies(stage)
        assert not [
            path
            for path in found
            if path.startswith(("dynadfq/quant/", "dynadfq/training/student"))
        ], stage


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_one_simple_command(stage):
    # No shell stays between dvc and the stage, so that the stage can end with dvc.
    assert re.fullmatch(r"exec python -m stages\.[a-z_]+( --[a-z]+)*", GRAPH[stage]["cmd"])


def test_expensive_stages_have_cached_outputs_only():
    for stage in STAGES[:-1]:
        assert set(GRAPH[stage]) == {"desc", "cmd", "params", "deps", "outs"}
        [(out, options)] = paths(GRAPH[stage]["outs"]).items()
        assert out.startswith("artifacts/") and options == {}


def test_plot_alone_writes_reports_for_git():
    plot = GRAPH["plot"]
    assert set(plot) == {"desc", "cmd", "params", "deps", "metrics", "plots", "outs"}
    outs = paths(plot["metrics"]) | paths(plot["plots"]) | paths(plot["outs"])
    assert all(
        out.startswith("reports/") and options == {"cache": False} for out, options in outs.items()
    )
    assert list(paths(plot["metrics"])) == ["reports/metrics.json"]
    assert list(paths(plot["outs"])) == ["reports/index.html"]


def test_a_stage_that_reads_an_artifact_depends_on_it():
    made = {out: stage for stage in STAGES[:-1] for out in paths(GRAPH[stage]["outs"])}
    above = {
        stage: {
            made["/".join(path.split("/")[:2])]
            for path in content["deps"]
            if path.startswith("artifacts/")
        }
        for stage, content in GRAPH.items()
    }
    assert above == {
        "teacher": set(),
        "similarity": {"teacher"},
        "synthesize": {"teacher", "similarity"},
        "finetune": {"teacher", "synthesize"},
        "finetune_fixed": {"teacher", "synthesize"},
        "evaluate": {"teacher", "synthesize", "finetune", "finetune_fixed"},
        "export": {"teacher", "synthesize", "finetune"},
        "plot": set(STAGES) - {"plot"},
    }


def test_both_students_differ_in_what_they_may_see_only():
    dynamic, fixed = GRAPH["finetune"], GRAPH["finetune_fixed"]
    assert dynamic["deps"] == fixed["deps"]
    assert fixed["cmd"] == dynamic["cmd"] + " --fixed"
    hidden = {"quantization.activation_bits", "quantization.selector"}
    assert not hidden & set(fixed["params"])
    rest = {key for key in fixed["params"] if not key.startswith("quantization")}
    assert rest | {"quantization"} == set(dynamic["params"])
