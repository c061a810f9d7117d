"""From a description to cells: what is shared, what stays as it is, and what is said of
mistakes."""

from __future__ import annotations

import copy
import hashlib
import re
import subprocess
from functools import cache
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import load_yaml
from imports import ROOT, closure, room

from benchmarks.cells import GROUPS, NO_GRID, all_cells, cell, read_cells
from benchmarks.description import described
from benchmarks.expand import expand
from benchmarks.grid import GRIDS, load_grid, main, read_grid
from dynadfq.methods import METHODS
from dynadfq.methods.schedules import SCHEDULES
from dynadfq.params.errors import ParameterError
from dynadfq.params.yaml12 import Loader

Content = dict[str, Any]
SIDES = ("better", "worse")
loaded = cache(load_grid)
WORK = (
    *("teachers", "similarities", "images", "labelled", "students", "evaluation", "controls"),
    "statistics",
)


@pytest.fixture
def small() -> Content:
    content = read_grid(GRIDS / "digits.yaml")
    assert isinstance(content, dict)
    return copy.deepcopy(content)


def expanded(content: Content) -> tuple[Content, list[str]]:
    grid, problems = described(content)
    if grid is None or problems:
        return {}, problems
    return expand("small", grid, yaml.load((ROOT / grid.base).read_text(), Loader))


def cells_of(content: Content) -> Content:
    cells, problems = expanded(content)
    assert problems == []
    return cells


def rows(content: Content) -> list[Content]:
    return content["studies"]["methods"]["rows"]


def contains(bigger: Content, smaller: Content) -> bool:
    """Whether every cell of one grid is in the other, unchanged."""
    return all(
        bigger[kind].get(key) == entry for kind in WORK for key, entry in smaller[kind].items()
    )


@pytest.mark.parametrize("path", sorted(GRIDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_grid_is_valid_and_its_keys_are_unique(path):
    cells = loaded(path.stem)
    names = [one.name for one in all_cells(cells)]
    assert len(set(names)) == len(names)
    keys = [key for group in set(GROUPS.values()) for key in cells[group]]
    assert all(re.fullmatch(r"[a-z0-9_-]+", key, re.IGNORECASE) for key in keys), (
        "DVC reads a dot as a step"
    )
    used = {
        key
        for study in cells["studies"].values()
        for line in study["lines"]
        for key in line["cells"]
    }
    assert used == set(cells["students"])


def test_grids_share_no_key():
    grids = [
        {one.name for one in all_cells(loaded(path.stem))} for path in sorted(GRIDS.glob("*.yaml"))
    ]
    assert sum(map(len, grids)) == len(set.union(*grids))


def test_the_fashion_mnist_grid_has_every_method():
    cells = loaded("fashion-mnist")
    entries = [*cells["images"].values(), *cells["labelled"].values(), *cells["students"].values()]
    assert {entry["method"] for entry in entries} == set(METHODS)


def test_an_heir_adds_claims_and_leaves_out_null_studies_with_theirs(tmp_path, monkeypatch):
    inherited = (GRIDS / "fashion-mnist.yaml").resolve()
    before = read_grid(inherited)
    own = before["claims"][0] | {"text": "another"}
    heir = tmp_path / "heir.yaml"
    heir.write_text(
        yaml.safe_dump({"extends": "fashion-mnist", "studies": {"dsg": None}, "claims": [own]})
    )
    described = yaml.safe_load(inherited.read_text()) | {"controls": ["dsg", "sources"]}
    (tmp_path / "fashion-mnist.yaml").write_text(yaml.safe_dump(described))
    monkeypatch.setattr("benchmarks.grid.GRIDS", tmp_path)
    after = read_grid(heir)
    assert before["studies"].keys() - after["studies"].keys() == {"dsg"}
    assert after["label_studies"] == ["labels"] and after["controls"] == ["sources"]
    about = [claim for claim in before["claims"] if claim["better"]["study"] == "dsg"]
    kept = [claim for claim in before["claims"] if claim not in about]
    assert about and after["claims"] == [*kept, own]
    heir.write_text("extends: fashion-mnist\nstudies:\n  labels: null\n")
    assert read_grid(heir)["label_studies"] == []
    heir.write_text("extends: fashion-mnist\nstudies:\n  methods: null\n")
    sides = [claim[side]["study"] for claim in read_grid(heir)["claims"] for side in SIDES]
    assert sides and "methods" not in sides
    heir.write_text("extends: fashion-mnist\nstudies:\n")
    assert read_grid(heir)["studies"] == before["studies"]
    heir.write_text("extends: fashion-mnist\nstudies:\n  lables: null\n")
    with pytest.raises(ParameterError, match=r"studies\.lables: null .*did you mean labels"):
        read_grid(heir)


def test_a_control_needs_candidates_and_a_figure_needs_names(small: Content):
    side = {"study": "methods", "label": rows(small)[0]["label"]}
    claim = {"text": "t", "source": "s", "better": side, "worse": {**side, "control": True}}
    small["claims"] = [{**claim, "widths": rows(small)[0]["widths"][:1]}]
    small["images"]["again"] = {"method": "zeroq"}
    rows(small).append(
        {"label": "ZeroQ", "images": "again", "student": rows(small)[0]["student"]}
        | {"widths": ["w4a4"]}
    )
    small["entropies"] = ["zeroq", "again"]
    _, problems = expanded(small)
    assert [problem.split(":")[0] for problem in problems] == ["entropies", "claims[0].worse"]
    assert "zeroq and again are both ZeroQ" in problems[0]
    assert "control: W" in problems[1]


def test_adding_a_width_adds_students_only(small: Content):
    before = cells_of(small)
    rows(small)[0]["widths"].append("w5a5")
    after = cells_of(small)
    assert contains(after, before)
    assert after["images"] == before["images"]
    assert set(after["students"]) - set(before["students"]) == {
        "digits-resnet20-zeroq-zeroq-w5a5-s0"
    }


def test_a_width_of_32_leaves_activations_float(small: Content):
    before = cells_of(small)
    rows(small)[0]["widths"].append("w3a32")
    after = cells_of(small)
    assert contains(after, before)
    [key] = set(after["students"]) - set(before["students"])
    assert key == "digits-resnet20-zeroq-zeroq-w3a32-s0"
    assert after["students"][key]["fixed"]
    quantization = after["students"][key]["params"]["quantization"]
    assert (quantization["weight_bits"], quantization["target_bits"]) == (3, 32)
    [line] = [one for one in after["studies"]["methods"]["lines"] if one["cells"] == [key]]
    assert line["width"] == "W3A32"


def test_adding_a_method_changes_no_other_cell(small: Content):
    before = cells_of(small)
    small["images"]["intraq"] = {"method": "intraq"}
    small["students"]["intraq"] = {"method": "intraq"}
    rows(small).insert(0, {"images": "intraq", "student": "intraq", "widths": ["w4a4"]})
    after = cells_of(small)
    assert contains(after, before)
    assert set(after["images"]) - set(before["images"]) == {"digits-resnet20-intraq-s0"}


def test_adding_a_seed_changes_no_other_cell(small: Content):
    before = cells_of(small)
    rows(small)[0]["seeds"] = 3
    after = cells_of(small)
    assert contains(after, before)
    assert after["images"]["digits-resnet20-zeroq-s2"]["params"]["seed"] == 2


def test_equal_cells_are_one(small: Content):
    small["studies"]["labels"] = {
        "title": "",
        "rows": [
            {
                "images": "dynadfq",
                "student": "dynadfq",
                "widths": ["w4a4-345"],
                "vary": {"images.similar_classes": [2, 3], "images.diverse_ratio": [0.5, 1.0]},
            }
        ],
    }
    cells = cells_of(small)
    keys = [line["cells"][0] for line in cells["studies"]["labels"]["lines"]]
    start = "digits-resnet20-dynadfq"
    assert keys == [
        f"{start}-dynadfq-w4a4-345-s0",
        f"{start}-diverse_ratio1p0-dynadfq-w4a4-345-s0",
        f"{start}-similar_classes3-dynadfq-w4a4-345-s0",
        f"{start}-similar_classes3-diverse_ratio1p0-dynadfq-w4a4-345-s0",
    ]
    assert keys[0] in cells["studies"]["methods"]["lines"][-2]["cells"]


def test_a_cell_holds_what_its_stage_declares(small: Content):
    cells = cells_of(small)
    images = cells["images"]["digits-resnet20-zeroq-class-s0"]["params"]
    assert set(images) == {"seed", "device", "precision", "teacher", "synthesis", "method"}
    assert set(images["teacher"]) == {"architecture"}
    assert set(images["method"]) == {"name", "preset", "images"}
    assert images["method"]["images"]["class_weight"] == 1.0
    fixed = cells["students"]["digits-resnet20-dynadfq-dynadfq-w3a3-s0"]["params"]
    assert fixed["quantization"]["weight_bits"] == fixed["quantization"]["target_bits"] == 3
    assert "selector" not in fixed
    dynamic = cells["students"]["digits-resnet20-dynadfq-dynadfq-w3a3-234-s0"]["params"]
    assert dynamic["selector"]["candidates"] == [2, 3, 4]


def test_a_part_may_follow_its_published_schedule(small: Content):
    small["images"]["intraq"] = {"method": "intraq", "published": True}
    settings = {"finetune.epochs": 2, "finetune.calibration_images": 64}
    small["students"]["intraq"] = {"method": "intraq", "published": True, "set": settings}
    rows(small).append({"images": "intraq", "student": "intraq", "widths": ["w4a4"]})
    cells = cells_of(small)
    images = cells["images"]["digits-resnet20-intraq-s0"]["params"]["synthesis"]
    assert [images[key] for key in ("num_images", "batch_size", "iterations", "patience")] == [
        5120,
        256,
        1000,
        50,
    ]
    student = cells["students"]["digits-resnet20-intraq-intraq-w4a4-s0"]["params"]
    loop = student["finetune"]
    assert (loop["learning_rate"], loop["batch_size"], loop["steps_per_epoch"]) == (1e-4, 256, 200)
    assert loop["epochs"] == 2 and loop["clipped_gradient"]  # its own `set` comes last
    assert student["quantization"]["ranges"]["learned"] is False
    untouched = cells["students"]["digits-resnet20-zeroq-zeroq-w4a4-s0"]["params"]
    assert untouched["finetune"]["batch_size"] == 32


def test_a_published_schedule_is_that_of_the_grids_preset(small: Content):
    small["set"]["method.preset"] = "imagenet-resnet18-w4"
    small["images"]["adadfq"] = {"method": "adadfq", "published": True}
    small["students"]["adadfq"] = {"method": "adadfq", "published": True}
    rows(small).append({"images": "adadfq", "student": "adadfq", "widths": ["w4a4"]})
    cells = cells_of(small)
    student = cells["students"]["digits-resnet20-adadfq-adadfq-w4a4-s0"]["params"]
    assert student["finetune"]["learning_rate"] == 1e-5
    assert student["method"]["student"]["lower_margin"] == 0.3
    assert student["method"]["student"]["temperature"] == 5.0
    images = cells["images"]["digits-resnet20-adadfq-s0"]["params"]
    assert images["synthesis"]["iterations"] == 10_000


def test_a_preset_of_one_width_is_refused_where_a_method_runs_at_another(small: Content):
    small["set"]["method.preset"] = "imagenet-resnet18-w4"  # no values for the other methods
    small["images"]["adadfq"] = small["students"]["adadfq"] = {"method": "adadfq"}
    rows(small).append({"images": "adadfq", "student": "adadfq", "widths": ["w4a4", "w3a3"]})
    _, problems = expanded(small)
    assert problems == [
        "set: method.preset: imagenet-resnet18-w4 is for weights of 4 bits, and W3A3 is in a "
        "study; set imagenet-resnet18, or have one grid per width"
    ]


def test_no_key_of_a_published_schedule_is_dropped(small: Content, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SCHEDULES, "zeroq", {"default": {"precision": "float32"}})
    small["images"]["zeroq"]["published"] = True
    with pytest.raises(ValueError, match="published schedule of zeroq: precision: only keys of"):
        expanded(small)


def test_a_method_without_a_published_schedule_is_an_error(small: Content):
    small["images"]["zeroq"]["published"] = True
    _, problems = expanded(small)
    assert problems == [
        "images.zeroq.published: zeroq has no published schedule; those that have one are intraq, "
        "hast, synq, gdfq, qimera, adadfq"
    ]


def test_real_images_are_labelled_and_nothing_else_is():
    cells = loaded("fashion-mnist")
    assert {entry["method"] for entry in cells["labelled"].values()} == {"real_data"}
    assert "real_data" not in {entry["method"] for entry in cells["images"].values()}
    for study in cells["studies"].values():
        for line in study["lines"]:
            images = {cells["students"][key]["images"] for key in line["cells"]}
            assert line["data_free"] == (not images & set(cells["labelled"]))


def test_every_mistake_is_reported_at_once(small: Content):
    small["images"]["zeroq"]["set"] = {"images.class_wight": 1.0, "finetune.epochs": 2}
    small["images"]["dynadfq"]["method"] = "dynadfk"
    rows(small)[2]["vary"] = {"evaluation.batch_size": [1]}
    _, problems = expanded(small)
    assert [problem.split(":")[0] for problem in problems] == [
        "images.zeroq.set",
        "images.dynadfq.method",
        "studies.methods.rows[2].vary",
    ]
    assert "did you mean dynadfq?" in problems[1]


def test_wrong_values_and_unknown_keys_are_those_of_params_yaml(small: Content):
    small["images"]["zeroq"]["set"] = {"images.class_wight": 1.0}
    small["students"]["dynadfq"]["set"] = {"finetune.epochs": "many", "student.mixup_share": 2.0}
    _, problems = expanded(small)
    text = "\n".join(problems)
    assert "images.zeroq: method.images.class_wight: unknown key; did you mean" in text
    assert "students.dynadfq: finetune.epochs: must be a whole number in 0 … " in text
    assert "students.dynadfq: method.student.mixup_share: must be in 0 … 1; got 2.0" in text
    assert len(problems) == 3


@pytest.mark.parametrize("width", ["4", "w9a4", "w4a16", "w4a32-345", "w4a4-543", "w4a4-", "W4A4"])
def test_a_wrong_width_is_named(small: Content, width: str):
    rows(small)[0]["widths"] = [width]
    _, problems = expanded(small)
    assert (
        len(problems) == 1
        and "studies.methods.rows[0].widths" in problems[0]
        and width in problems[0]
    )


def test_unknown_names_are_reported(small: Content):
    rows(small)[0]["images"] = "nothing"
    for key in ("statistics", "entropies", "label_studies", "controls", "generators"):
        small[key] = ["nowhere"]
    _, problems = expanded(small)
    assert [problem.split(":")[0] for problem in problems] == [
        "studies.methods.rows[0].images",
        "statistics",
        "entropies",
        "label_studies",
        "controls",
        "generators",
    ]


def test_figures_without_what_they_show_are_reported(small: Content):
    small["label_studies"], small["generators"] = ["mixup"], ["zeroq"]
    _, problems = expanded(small)
    assert problems == [
        "label_studies: mixup varies no key of the images",
        "generators: zeroq is in no study, or trains no generator beside the student",
    ]


def test_a_figure_names_sets_that_are_measured_once():
    cells = loaded("fashion-mnist")
    figures = {figure["kind"]: figure for figure in cells["figures"]}
    shown = {one["key"] for figure in figures.values() for one in figure["sets"]}
    assert shown == set(cells["statistics"])
    start = "fashion-resnet20"
    layered = {key for key, entry in cells["statistics"].items() if entry["layers"]}
    assert layered == {f"{start}-{source}-s0" for source in ("real", "zeroq", "dsg")}
    labels = [one["label"] for one in figures["entropies"]["sets"]]
    assert labels == ["Test images", "ZeroQ", "DSG", "IntraQ", "HAST", "DynaDFQ"]
    assert figures["layers"]["sets"][0]["label"] == "Real data"
    varied = [(one["varied"], one["key"]) for one in figures["label-entropies"]["sets"]]
    assert ({"images.similar_classes": 3}, f"{start}-dynadfq-similar_classes3-s0") in varied
    assert figures["label-entropies"]["sets"] == figures["similar-classes"]["sets"]
    widths = {one["label"]: one["key"] for one in figures["generators"]["sets"]}
    assert list(widths) == ["Test images", "W5A5", "W4A4", "W3A3"]
    assert widths["W3A3"] == f"{start}-adadfq-adadfq-w3a3-s0"
    assert cells["statistics"][widths["W3A3"]]["of"] == "generator"


def test_controls_are_those_of_dynamic_students(small: Content):
    small["controls"] = ["methods"]
    controls = cells_of(small)["controls"]
    names = ("dynadfq-dynadfq-w4a4-345", "dynadfq-dynadfq-w3a3-234")
    keys = [f"digits-resnet20-{name}-s{seed}" for name in names for seed in (0, 1)]
    assert controls == {key: {"teacher": "digits-resnet20"} for key in keys}
    rows(small)[:] = rows(small)[:3]
    _, problems = expanded(small)
    assert problems == ["controls: methods has no widths with candidates, such as w4a4-345"]


def test_naming_a_figure_adds_statistics_only(small: Content):
    before = cells_of(small)
    small["statistics"], small["test_images"] = ["zeroq"], False
    after = cells_of(small)
    assert set(after["statistics"]) < set(before["statistics"])
    kinds = ("teachers", "similarities", "images", "labelled", "students", "evaluation")
    assert {kind: after[kind] for kind in kinds} == {kind: before[kind] for kind in kinds}


def test_an_unknown_grid_is_compared_with_those_there_are():
    with pytest.raises(ParameterError, match="did you mean digits"):
        load_grid("digit")


PIPELINE = load_yaml(ROOT / "benchmarks/dvc.yaml")["stages"]
MEASURED_BY = {
    "evaluate": "benchmarks/measurements.py",
    "controls": "benchmarks/controls.py",
    "statistics": "benchmarks/image_statistics.py",
}
CODE = ("dynadfq/", "stages/", "benchmarks/generated", "benchmarks/report", *MEASURED_BY.values())


def code_and_data(kind: str) -> tuple[list[str], list[str]]:
    deps = PIPELINE[kind]["do"]["deps"]
    code = [path for path in deps if path.startswith(CODE)]
    return code, [path for path in deps if path not in code]


def resolved(text: str, key: str, item: Content) -> str:
    return re.sub(
        r"\$\{(?:item\.)?(\w+)\}", lambda m: key if m[1] == "key" else str(item[m[1]]), text
    )


@pytest.mark.parametrize("kind", GROUPS)
def test_dvc_and_the_cells_agree(kind: str):
    group, stage, cells = GROUPS[kind], PIPELINE[kind]["do"], loaded("fashion-mnist")
    assert PIPELINE[kind]["foreach"] == f"${{{group}}}"
    assert stage["cmd"] == f"exec python -m benchmarks.cell {kind} ${{key}}"
    [[declared]] = [entry["benchmarks/cells.yaml"] for entry in stage["params"]]
    assert declared == ("evaluation" if kind in ("evaluate", "controls") else f"{group}.${{key}}")
    _, data = code_and_data(kind)
    for key, item in cells[group].items():
        made = cell(cells, kind, key)
        assert [resolved(path, key, item) for path in data] == [str(path) for path in made.inputs]
        assert [resolved(path, key, item) for path in stage["outs"]] == [
            str(path) for path in made.outputs
        ]


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        ("teacher", "teacher"),
        ("similarity", "similarity"),
        ("images", "synthesize"),
        ("labelled", "synthesize"),
        ("student", "finetune"),
    ],
)
def test_a_cell_depends_on_the_rooms_of_its_stage(kind: str, stage: str):
    pipeline = load_yaml(ROOT / "dvc.yaml")["stages"]
    expected = {
        path.replace("${method.name}", "${item.method}")
        for path in pipeline[stage]["deps"]
        if path.startswith(CODE)
    }
    if kind == "labelled":
        expected.add("dynadfq/data")
    if kind == "student":
        expected.add("benchmarks/generated.py")
    assert set(code_and_data(kind)[0]) == expected


@pytest.mark.parametrize("kind", MEASURED_BY)
def test_a_measurement_depends_on_the_rooms_it_imports(kind: str):
    imported = {room(path) for path in closure(MEASURED_BY[kind])}
    assert set(code_and_data(kind)[0]) == imported


def test_the_table_depends_on_the_rooms_it_imports():
    deps = set(PIPELINE["table"]["do"]["deps"])
    imported = {room(path) for path in closure("benchmarks/table.py")}
    assert deps - {"benchmarks/artifacts/costs", "benchmarks/artifacts/evaluations"} == imported


def test_labelled_data_enters_where_it_is_said():
    reading = {kind for kind in PIPELINE if "dynadfq/data" in PIPELINE[kind]["do"]["deps"]}
    assert reading == {"teacher", "labelled", "evaluate", "controls", "statistics"}


def test_the_active_grid_has_what_the_pipeline_reads():
    assert {*GROUPS.values(), "reports"} <= set(read_cells())


def test_the_repository_holds_no_active_grid():
    command = ["git", "show", "HEAD:benchmarks/cells.yaml"]
    committed = yaml.safe_load(subprocess.check_output(command, cwd=ROOT, text=True))
    assert committed.pop("missing") == ["grid"]
    assert not any(committed.values()), "`dvc status` of a fresh clone would list its cells"


def test_without_a_grid_dvc_has_one_stage_which_is_up_to_date():
    # Without any, `dvc repro benchmarks/dvc.yaml` would run the main pipeline.
    [(name, locked)] = load_yaml(ROOT / "benchmarks/dvc.lock")["stages"].items()
    stage = PIPELINE["missing"]["do"]
    assert (name, locked["cmd"]) == ("missing@grid", stage["cmd"])
    [dependency] = locked["deps"]
    content = (ROOT / dependency["path"]).read_bytes()
    assert [dependency["path"]] == stage["deps"]
    assert (dependency["md5"], dependency["size"]) == (
        hashlib.md5(content).hexdigest(),
        len(content),
    )


@pytest.mark.parametrize("words", [["-S", "teacher.checkpoint"], ["-S", "seed=["]])
def test_an_override_that_cannot_be_read_is_named(words: list[str]):
    with pytest.raises(ParameterError, match=f"{re.escape(words[1])}: "):
        main(["write", "digits", *words])


def test_an_estimate_needs_a_grid_and_rates_above_0():
    assert main(["estimate"]) == NO_GRID
    with pytest.raises(SystemExit):
        main(["estimate", "digits", "--synthesis", "0"])
