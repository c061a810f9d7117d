"""Laws of dvc.yaml that need no run."""

from __future__ import annotations

import re
from typing import Any

import pytest
from dvc.utils.serialize import load_yaml
from imports import ROOT, closure, room
from project import STAGES

from dynadfq import methods
from dynadfq.params import Params

PIPELINE = load_yaml(ROOT / "dvc.yaml")
GRAPH: dict[str, dict[str, Any]] = PIPELINE["stages"]
LABELLED = {"teacher", "evaluate"}
# Of the methods, these stages depend on the one in use.
USES_METHOD = ("trial", "synthesize", "finetune", "finetune_fixed")
SAME_OUTPUT = ("check", "trial")  # what they write is always the same
METHOD_IN_USE = "dynadfq/methods/${method.name}.py"
METHODS = [f"dynadfq/methods/{name}.py" for name in methods.METHODS]
REAL_DATA = "dynadfq/methods/real_data.py"  # the one method that may read labelled data


def paths(entries: list[Any]) -> dict[str, dict[str, Any]]:
    """Entries of a list in dvc.yaml, with and without options."""
    return {
        k: v
        for entry in entries
        for k, v in (entry if isinstance(entry, dict) else {entry: {}}).items()
    }


def code_of(stage: str) -> set[str]:
    """Every file that a stage imports; of the methods, all that read no labelled data."""
    module = stage.removesuffix("_fixed")
    images_only = module == "synthesize"
    data_free = [path for path in METHODS if path != REAL_DATA] if stage in USES_METHOD else []
    entries = [f"stages/{module}.py", *data_free]
    return set().union(*(closure(entry, images_only) for entry in entries))


def test_the_stages_are_those_of_the_design():
    assert list(GRAPH) == STAGES
    assert all(stage["desc"] for stage in GRAPH.values())


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_rooms_it_imports(stage):
    declared = [path for path in GRAPH[stage]["deps"] if path.startswith(("dynadfq/", "stages/"))]
    imported = {METHOD_IN_USE if path in METHODS else room(path) for path in code_of(stage)}
    assert set(declared) == imported
    assert len(declared) == len(set(declared))


def test_what_only_a_student_uses_does_not_belong_to_the_images():
    squant = "dynadfq/methods/squant.py"
    assert "dynadfq/ptq/squant.py" in closure(squant)
    assert "dynadfq/ptq/squant.py" not in closure(squant, images_only=True)
    assert "dynadfq/synthesis/pixels.py" in closure(squant, images_only=True)


def test_labelled_data_enters_in_two_stages_only():
    assert {stage for stage in STAGES if "dynadfq/data" in GRAPH[stage]["deps"]} == LABELLED
    reads = {stage: content for stage, content in GRAPH.items() if stage != "check"}
    assert {stage for stage, content in reads.items() if "data" in content["params"]} == LABELLED
    for stage, content in reads.items():
        assert not [key for key in content["params"] if key.startswith("data.")], stage
        assert not [
            path for path in content["deps"] if path == "data" or path.startswith("data/")
        ], stage


def test_the_check_sees_every_parameter_before_any_other_stage_starts():
    assert set(GRAPH["check"]["params"]) == set(Params.model_fields) - {"launch"}
    assert "artifacts/checked.txt" in GRAPH["teacher"]["deps"]


def test_an_edited_quantizer_leaves_the_images():
    for stage in ("teacher", "similarity", "synthesize"):
        rooms = set(GRAPH[stage]["deps"])
        assert not rooms & {"dynadfq/quant", "dynadfq/ptq", "dynadfq/training", "dynadfq/graph"}


def test_the_pipeline_fits_on_a_page():
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 200


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_one_simple_command(stage):
    # No shell stays between dvc and the stage, so that the stage can end with dvc.
    assert re.fullmatch(r"exec python -m stages\.[a-z_]+( --[a-z]+)*", GRAPH[stage]["cmd"])


def test_expensive_stages_have_cached_outputs_only():
    for stage in STAGES[:-1]:
        assert set(GRAPH[stage]) == {"desc", "cmd", "params", "deps", "outs"}
        [(out, options)] = paths(GRAPH[stage]["outs"]).items()
        assert out.startswith("artifacts/")
        # One that fails leaves the rest as it was.
        assert options == ({"persist": True} if stage in SAME_OUTPUT else {})


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
        "check": set(),
        "teacher": {"check"},
        "similarity": {"teacher"},
        "trial": {"teacher"},
        "synthesize": {"teacher", "similarity", "trial"},
        "finetune": {"teacher", "synthesize"},
        "finetune_fixed": {"teacher", "synthesize"},
        "evaluate": {"teacher", "synthesize", "finetune", "finetune_fixed"},
        "export": {"teacher", "synthesize", "finetune"},
        "plot": set(STAGES) - {*SAME_OUTPUT, "plot"},
    }


def test_both_students_differ_in_what_they_may_see_only():
    dynamic, fixed = GRAPH["finetune"], GRAPH["finetune_fixed"]
    assert dynamic["deps"] == fixed["deps"]
    assert fixed["cmd"] == dynamic["cmd"] + " --fixed"
    assert set(fixed["params"]) == set(dynamic["params"]) - {"selector"}
