"""Tables, figures and the page, against results made by hand."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from benchmarks import run, table
from benchmarks.cells import CELLS, controls_of, cost_of, evaluation_of, statistics_of
from benchmarks.report.controls import comparisons
from benchmarks.report.controls import shown as control_table
from benchmarks.report.figures.accuracy import accuracy_against_time, accuracy_by_method
from benchmarks.report.figures.entropies import entropies_by_label
from benchmarks.report.figures.looks import line_of
from benchmarks.report.figures.studies import panels
from benchmarks.report.plates import plates
from benchmarks.report.render import write_reports
from benchmarks.report.results import Line, missing, study_lines
from benchmarks.report.tables import plain, shown
from dynadfq.report.figures import LIGHT

Content = dict[str, Any]


def line(label: str, *cells: str, data_free: bool = True, **varied: Any) -> Content:
    common = {"teacher": "t", "width": "W4A4", "generator": False}
    return {
        "label": label,
        "varied": varied,
        "data_free": data_free,
        "cells": list(cells),
        **common,
    }


@pytest.fixture
def grid(tmp_path: Path) -> Content:
    """Two seeds of one method, real data, and a study of one key whose last cell is missing."""
    students = {"a-s0": "im-s0", "a-s1": "im-s1", "real-s0": "lab-s0", "k1": "im-s0", "k3": "im-s0"}
    content: Content = {
        "grid": "small",
        "title": "A <small> grid",
        "images": {
            key: {"params": {"method": {"images": {"similar_classes": 1 + number}}}}
            for number, key in enumerate(("im-s0", "im-s1"), start=1)
        },
        "labelled": {"lab-s0": {}},
        "students": {key: {"images": images} for key, images in students.items()},
        "controls": {"a-s0": {"teacher": "t"}, "a-s1": {"teacher": "t"}},
        "statistics": {
            "im-s0": {"teacher": "t", "of": "images"},
            "im-s1": {"teacher": "t", "of": "images"},
            "t-test": {"teacher": "t", "of": "test"},
            "a-s0": {"teacher": "t", "of": "generator"},
            "a-s1": {"teacher": "t", "of": "generator"},
        },
        "figures": figures(),
        "claims": [],
        "studies": {
            "methods": {
                "title": "Methods",
                "note": "A note.",
                "controls": True,
                "lines": [line("A", "a-s0", "a-s1"), line("Real data", "real-s0", data_free=False)],
            },
            "share": {
                "title": "Share",
                "note": "",
                "controls": False,
                "lines": [
                    line("A", key, **{"images.share": v})
                    for key, v in (("k1", 0.1), ("a-s0", 0.2), ("k3", 0.3))
                ],
            },
        },
    }
    top1 = {"a-s0": 90.0, "a-s1": 92.0, "real-s0": 93.0, "k1": 80.0}
    for key, value in top1.items():
        evaluation = {
            "top1": value,
            "bit_flops_percent": 2.5,
            "mean_activation_bits": 4.0,
            "teacher_top1": 94.0,
            "test_images": 500,
        }
        if key == "real-s0":
            evaluation["control_top1"] = 90.5
        write(tmp_path / evaluation_of(key), evaluation)
        cost = {
            "seconds": 50.0 if key == "a-s1" else 10.0,
            "peak_memory_mb": 300.0,
            "interrupted": key == "a-s1",
            "device": "cpu",
            "threads": 1,
        }
        write(tmp_path / cost_of("students", key), cost)
    for key, seconds in (("im-s0", 20.0), ("im-s1", 30.0), ("lab-s0", 1.0)):
        cost = {
            "seconds": seconds,
            "peak_memory_mb": 400.0,
            "interrupted": False,
            "device": "cpu",
            "threads": 1,
        }
        write(tmp_path / cost_of("images", key), {**cost, "images": 64})
    for key, wrong, p_value in (("a-s0", [1, 2], 0.5), ("a-s1", [3], 0.25)):
        write(tmp_path / controls_of(key), controls(wrong, p_value))
    write(tmp_path / evaluation_of("left-over"), {"top1": 99.0})
    for key, entry in content["statistics"].items():
        write_statistics(tmp_path / statistics_of(key), test=entry["of"] == "test")
    return content


def controls(wrong: list[int], p_value: float) -> Content:
    """Controls on 100 images, one of which misses images 3 to 6, and another none."""
    own = {
        **{"top1": 100.0 - len(wrong), "wrong": wrong},
        **{"bit_flops_percent": 2.4, "selector_overhead_percent": 0.5},
    }
    others = {
        "4 bits": {"top1": 100.0, "bit_flops_percent": 2.6, "wrong": [], "p_value": 1e-9},
        "permuted": {
            **{"top1": 96.0, "bit_flops_percent": 2.5},
            **{"wrong": [3, 4, 5, 6], "p_value": p_value},
        },
    }
    return {"test_images": 100, "allocations": {"own": own, **others}}


def figures() -> list[Content]:
    """Every kind of figure."""
    made = [{"label": "one", "key": "im-s0"}, {"label": "other", "key": "im-s1"}]
    test = {"label": "Test images", "key": "t-test"}
    varied = [
        {"varied": {"images.similar_classes": k}, "key": key}
        for k, key in ((2, "im-s0"), (3, "im-s1"))
    ]
    beside = [{"label": "W4A4", "key": "a-s0"}, {"label": "W3A3", "key": "a-s1"}]
    sets: dict[str, tuple[list[Content], Content]] = {
        "layers": (made, {}),
        "channels": (made, {}),
        "entropies": ([test, *made], {}),
        "label-entropies": (varied, {"study": "labels"}),
        "similar-classes": (varied, {"study": "labels"}),
        "easy-and-hard": ([test], {}),
        "generators": ([test, *beside], {"student": "a", "method": "A"}),
    }
    return [
        {"kind": kind, "teacher": "t", "sets": shown, **about}
        for kind, (shown, about) in sets.items()
    ]


def write_statistics(folder: Path, test: bool) -> None:
    """Six images of two classes: the second and the fifth one are kept, and the third and the
    sixth, whose labels are soft (for test images, whose entropies are highest)."""
    folder.mkdir(parents=True)
    entropies = [0.2, 0.1, 0.3, 0.5, 0.4, 0.6]
    soft = [0, 0, 1, 0, 0, 1]
    labels = [0, 0, 0, 1, 1, 1]
    images = pd.DataFrame({"label": labels, "soft": 0 if test else soft})
    images = images.assign(teacher_prediction=0, entropy_nats=entropies)
    images.rename_axis("index").to_csv(folder / "images.csv")
    (folder / "classes.json").write_text(json.dumps(["cat", "dog"] if test else ["0", "1"]))
    shares = np.float32([[1, 0], [0.6, 0.4], [0, 1], [0.4, 0.6]])
    if test:
        shares = np.float32([[1, 0], [1, 0], [0, 1], [0, 1]])
    kept = {
        "index": np.array([1, 2, 4, 5]),
        "pixels": np.arange(4, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2),
        "soft_labels": shares,
        "probabilities": np.float32([[0.9, 0.1], [0.7, 0.3], [0.8, 0.2], [0.6, 0.4]]),
    }
    kept["pixels"] = kept["pixels"].repeat(3, 3)
    save_file(kept, folder / "kept.safetensors")
    rows = [(layer, image) for layer in range(3) for image in range(6)]
    layers = pd.DataFrame(rows, columns=["layer", "image"])
    layers.assign(offset=0.1 * layers["image"], spread=1.0).to_csv(
        folder / "layers.csv", index=False
    )
    layers.assign(
        channel=1, mean=0.1 * layers["image"], deviation=1.0, bn_mean=0.2, bn_deviation=1.5
    ).to_csv(folder / "channels.csv", index=False)


def write(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_a_line_is_mean_and_spread_over_seeds(grid: Content, tmp_path: Path):
    made, real = study_lines(grid, "methods", tmp_path)
    assert (made.top1, made.top1_std, made.seeds, made.wanted) == (
        91.0,
        pytest.approx(2**0.5),
        2,
        2,
    )
    assert made.synthesis_seconds == 25.0 and made.images == 64 and made.peak_memory_mb == 400.0
    assert made.finetune_seconds == 10.0, "the one that was interrupted has no time"
    assert (real.top1, real.top1_std, real.synthesis_seconds) == (93.0, None, 1.0)


def test_a_time_on_a_cpu_is_cpu_time_and_on_a_gpu_wall_time(grid: Content, tmp_path: Path):
    path = tmp_path / cost_of("students", "real-s0")
    cost = {**json.loads(path.read_text()), "cpu_seconds": 4.0}
    for device, seconds in (("cpu", 4.0), ("NVIDIA H100", 10.0)):
        write(path, {**cost, "device": device})
        real = study_lines(grid, "methods", tmp_path)[1]
        assert (real.finetune_seconds, real.seconds) == (seconds, 1.0 + seconds)


def test_the_table_has_the_papers_form(grid: Content, tmp_path: Path):
    assert shown(study_lines(grid, "methods", tmp_path)).markdown.splitlines() == [
        "| Method | W/A | Generator | Data-free | bit-FLOPs % | top-1 % | Control % | Seeds "
        "| Images | Synthesis s | Fine-tuning s | Peak MB |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| A | W4A4 | no | yes | 2.50 | 91.00 ± 1.41 | – | 2 | 64 | 25 | 10 | 400 |",
        "| Real data (not data-free) | W4A4 | no | no | 2.50 | 93.00 | 90.50 | 1 | 64 | 1 | 10 "
        "| 400 |",
    ]


def test_varied_keys_are_columns(grid: Content, tmp_path: Path):
    table = plain(study_lines(grid, "share", tmp_path))
    assert table["images.share"].tolist() == [0.1, 0.2, 0.3]
    assert table["top1"].tolist()[:2] == [80.0, 90.0] and table["top1"].isna().tolist() == [
        False,
        False,
        True,
    ]
    assert shown(study_lines(grid, "share", tmp_path)).headings[2] == "share"


def test_missing_cells_are_named_and_others_are_ignored(grid: Content, tmp_path: Path):
    assert missing(grid, tmp_path) == ["evaluate@k3"]
    (tmp_path / evaluation_of("a-s1")).unlink()
    shutil.rmtree(tmp_path / statistics_of("im-s0"))
    assert missing(grid, tmp_path) == ["evaluate@a-s1", "evaluate@k3", "statistics@im-s0"]
    made, _ = study_lines(grid, "methods", tmp_path)
    assert (made.top1, made.top1_std, made.seeds, made.wanted) == (90.0, None, 1, 2)
    assert "| 1 of 2 |" in shown([made]).markdown


def test_a_table_of_controls_by_hand(grid: Content, tmp_path: Path):
    """Seeds gain 4 - 2 and 3 images over the permuted widths, and lose 2 and 1 to 4 bits.

    Of the gains, three images are the same with both seeds.
    """
    studies = {name: study_lines(grid, name, tmp_path) for name in grid["studies"]}
    found = list(comparisons(grid, studies, tmp_path))
    gains = [(one.against, one.gain, one.p_values) for one in found]
    assert gains == [("permuted", 2.5, (0.5, 0.25)), ("4 bits", -1.5, (1e-9, 1e-9))]
    of_images = ((3 * 1.0**2 + 3 * 0.5**2) / 100 - 0.025**2) / 100
    assert found[0].error == pytest.approx(100 * (of_images + 0.005**2) ** 0.5)
    row = "| A | W4A4 | permuted | 98.50 | 2.40 | 96.00 | 2.50 | +2.50 | 1.98 | 0.5, 0.25 | 2 |"
    assert row in control_table(found).markdown
    assert "| < 0.0001, < 0.0001 | 2 |" in control_table(found).markdown
    (tmp_path / controls_of("a-s0")).unlink()
    assert [one.p_values for one in comparisons(grid, studies, tmp_path)] == [(0.25,), (1e-9,)]
    (tmp_path / controls_of("a-s1")).unlink()
    assert list(comparisons(grid, studies, tmp_path)) == []
    assert {"controls@a-s0", "controls@a-s1"} <= {*missing(grid, tmp_path)}


def test_the_report_is_whole_and_equal_cells_give_equal_bytes(grid: Content, tmp_path: Path):
    reports = [tmp_path / name for name in ("one", "two")]
    contents = []
    for folder in reports:
        assert write_reports(grid, folder, tmp_path) == ["evaluate@k3"]
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        contents.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    images = ("images-labels", "easy-and-hard", "generators-a")
    charts = (
        "methods",
        "time",
        "study-share",
        "layers",
        "channels",
        "entropies",
        "entropies-labels",
    )
    figures = {f"figures/{name}.png" for name in (*charts, *images)}
    named = ("methods", "share", "controls")
    tables = {f"tables/{study}.{kind}" for study in named for kind in ("csv", "md")}
    assert set(contents[0]) == {"index.html", *figures, *tables}
    page = contents[0]["index.html"].decode()
    assert (
        "A &lt;small&gt; grid" in page
        and "<code>evaluate@k3</code>" in page
        and "not data-free" in page
    )
    assert 'src="http' not in page
    rows = 2 * (3 + 2 + 3)  # two classes; K of 1 to 3, two ends, test images and two widths
    assert page.count("<img") == len(charts) + rows


def test_an_empty_grid_still_has_a_page(grid: Content, tmp_path: Path):
    lacking = write_reports(grid, tmp_path / "reports", tmp_path / "nothing")
    assert len(lacking) == 12 and {"controls@a-s0", "controls@a-s1"} <= {*lacking}
    page = (tmp_path / "reports" / "index.html").read_text()
    assert "12 cells are not computed" in page


def test_a_figure_is_left_out_where_nothing_was_measured(grid: Content, tmp_path: Path):
    def names() -> set[str]:
        studies = {name: study_lines(grid, name, tmp_path) for name in grid["studies"]}
        return {plate.name for plate in plates(grid, studies, tmp_path)}

    everything = names()
    shutil.rmtree(tmp_path / statistics_of("t-test"))
    assert everything - names() == {"easy-and-hard"}
    for key in ("a-s0", "a-s1"):
        shutil.rmtree(tmp_path / statistics_of(key))
    assert everything - names() == {"easy-and-hard", "generators-a"}
    for key in ("im-s0", "im-s1"):
        shutil.rmtree(tmp_path / statistics_of(key))
    assert names() == {"methods", "time", "study-share"}


def test_captions_say_how_many_images_there_are(grid: Content, tmp_path: Path):
    studies = {name: study_lines(grid, name, tmp_path) for name in grid["studies"]}
    captions = {plate.name: plate.caption for plate in plates(grid, studies, tmp_path)}
    for name in ("layers", "channels", "entropies-labels", "images-labels", "generators-a"):
        assert "n = 6 images of each kind." in captions[name]
    assert "Of the 6 test images" in captions["easy-and-hard"]
    path = tmp_path / statistics_of("im-s1") / "images.csv"
    pd.concat([pd.read_csv(path)] * 2).to_csv(path, index=False)
    captions = {plate.name: plate.caption for plate in plates(grid, studies, tmp_path)}
    assert "n = 6 (one), 12 (other)." in captions["channels"]
    counts = "n = 6 (similar classes 2), 12 (similar classes 3)."
    assert counts in captions["entropies-labels"]


def test_a_teachers_name_stands_where_there_are_several(grid: Content, tmp_path: Path):
    other = [{**figure, "teacher": "u"} for figure in figures()]
    found = [plate.name for plate in plates({**grid, "figures": figures() + other}, {}, tmp_path)]
    assert len(set(found)) == len(found) and {"layers-t", "layers-u"} <= set(found)


def test_columns_are_classes_and_rows_are_what_their_headings_say(grid: Content, tmp_path: Path):
    shown = {plate.name: plate for plate in plates(grid, {}, tmp_path)}
    indices = {
        name: {
            heading.split(":")[0]: [tile.index for tile in row]
            for heading, row in plate.rows.items()
        }
        for name, plate in shown.items()
        if plate.rows
    }
    assert indices == {
        "images-labels": {"K = 1": [1, 4], "K = 2": [2, 5], "K = 3": [2, 5]},
        "easy-and-hard": {"Lowest entropy": [1, 4], "Highest entropy": [2, 5]},
        "generators-a": {"Test images": [1, 4], "W4A4": [1, 4], "W3A3": [1, 4]},
    }
    names = {tuple(plate.classes) for plate in shown.values() if plate.rows}
    assert names == {("cat", "dog")}, "the test set's, as the network knows numbers only"
    hard = shown["easy-and-hard"].rows["Highest entropy: mean entropy 0.45 nats"][1]
    assert hard.shares == (("cat", pytest.approx(0.6)), ("dog", pytest.approx(0.4)))
    assert (hard.label, hard.recognized) == ((("dog", 1.0),), False)
    two = shown["images-labels"].rows["K = 2: mean entropy 0.45 nats"][0]
    assert two.shares == two.label == (("cat", pytest.approx(0.6)), ("dog", pytest.approx(0.4)))


def test_a_class_that_a_row_lacks_is_not_shown(grid: Content, tmp_path: Path):
    path = tmp_path / statistics_of("a-s1") / "images.csv"
    pd.read_csv(path).assign(label=0).to_csv(path, index=False)
    shown = {plate.name: plate for plate in plates(grid, {}, tmp_path)}
    assert shown["generators-a"].classes == ["cat"]


def lines(*points: tuple[str, float, float]) -> list[Line]:
    empty = dict.fromkeys(Line._fields)
    common = {**empty, "width": "W4A4", "varied": {}, "data_free": True}
    return [
        Line(**{**common, "label": name, "bit_flops_percent": cost, "top1": top1})
        for name, cost, top1 in points
    ]


def test_methods_stand_by_their_accuracy_at_the_lowest_width():
    at_4 = lines(*((name, 2.6, top1) for name, top1 in (("a", 90.0), ("b", 88.0), ("c", 92.0))))
    at_3 = [
        line._replace(width="W3A3")
        for line in lines(("a", 1.9, 80.0), ("b", 1.4, 84.0), ("d", 1.9, 20.0))
    ]
    figure = accuracy_by_method([*at_4, *at_3])
    wide, narrow = figure.axes
    assert [label.get_text() for label in wide.get_yticklabels()] == ["b", "a", "d", "c"]
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["W4 (2.6 %)", "W3 (1.4–1.9 %)"]
    [below] = narrow.texts  # d is far below, at the lowest accuracy that is drawn to scale
    assert below.get_text() == "20" and below.xy == (pytest.approx(76.0), 2)
    assert not wide.texts
    assert narrow.get_xlim()[0] < 76 < 84 < narrow.get_xlim()[1] < 90


def test_the_best_line_of_a_method_ranks_it_and_the_teacher_is_a_line():
    found = lines(("a", 1.9, 80.0), ("b", 1.9, 84.0), ("a", 1.8, 86.0))
    figure = accuracy_by_method([line._replace(teacher_top1=95.0) for line in found])
    [ax] = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    dashed = [line for line in ax.get_lines() if list(line.get_xdata()) == [95.0, 95.0]]
    assert len(dashed) == 1 and ax.get_xlim()[1] > 95
    assert "float teacher" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_points_below_the_range_stand_at_its_lower_edge_without_a_bar():
    found = [
        line._replace(synthesis_seconds=seconds, finetune_seconds=1.0, test_images=1000)
        for seconds, line in enumerate(
            lines(("a", 1.9, 80.0), ("b", 1.9, 84.0), ("c", 1.9, 20.0)), start=1
        )
    ]
    [ax] = accuracy_against_time(found).axes
    points = [(bar.lines[0].get_xdata()[0], bar.lines[0].get_ydata()[0]) for bar in ax.containers]
    assert points == [(2.0, 80.0), (3.0, 84.0), (4.0, pytest.approx(76.0))]
    assert [bar.has_yerr for bar in ax.containers] == [True, True, False]
    assert ax.get_ylim()[0] < 76
    assert ax.get_ylim()[1] > 84 + found[1].top1_error  # whole bars are shown


def test_colours_tell_kinds_of_students_apart():
    kinds = lines(("a", 2.6, 90.0), ("b", 2.5, 91.0), ("c", 2.6, 92.0))
    kinds = [kinds[0], kinds[1]._replace(width="W4A{3,4,5}"), kinds[2]._replace(data_free=False)]
    [legend] = accuracy_by_method(kinds).legends
    handles = zip(legend.get_texts(), legend.legend_handles, strict=True)
    colours = {text.get_text(): handle.get_color() for text, handle in handles}
    assert {*colours} == {"fixed widths", "widths by image", "not data-free"}
    assert len(set(colours.values())) == 3


def test_two_varied_keys_make_one_panel_with_series():
    base = lines(("a", 1.0, 80.0))[0]
    study = [
        base._replace(varied={"images.k": k, "images.r": r}) for k in (2, 3) for r in (0.5, 1.0)
    ]
    [panel] = panels(study)
    assert panel.key == "images.r" and list(panel.series) == ["k 2", "k 3"]
    assert [value for value, _ in panel.series["k 2"]] == [0.5, 1.0]


def test_each_key_that_is_varied_alone_has_a_panel():
    base = lines(("a", 1.0, 80.0))[0]
    study = [
        base._replace(varied={key: value}) for key in ("images.x", "images.y") for value in (1, 2)
    ]
    assert [panel.key for panel in panels(study)] == ["images.x", "images.y"]


def test_a_key_with_one_measured_value_has_no_panel():
    base = lines(("a", 1.0, 80.0))[0]
    study = [base._replace(varied={"images.x": 1}), base._replace(varied={"images.y": 1})]
    assert panels(study) == []
    also = [base._replace(varied={"images.y": 2}), base._replace(varied={"images.x": 2}, top1=None)]
    assert [panel.key for panel in panels(study + also)] == ["images.y"]


@pytest.mark.parametrize("command", [run.main, table.run])
def test_without_a_grid_the_commands_say_how_to_write_one(
    command: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / CELLS).write_text("reports: []")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks.run"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(SystemExit, match="holds no grid"):
        command()


def test_a_figure_holds_any_number_of_series():
    looks = [tuple(line_of(number, LIGHT).values()) for number in range(24)]
    assert len(set(looks)) == 24 and looks[0] == tuple(line_of(24, LIGHT).values())
    curves = {str(number): np.array([0.1 * number, 1.0]) for number in range(9)}
    [ax] = entropies_by_label({"a": curves}).axes
    assert len(ax.patches) == 9
