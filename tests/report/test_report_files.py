"""What `write_report` leaves on disk."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from dynadfq.report.render import write_report

LABELLED_FIGURES = {"class_similarity", "confusion"}
FIGURES = LABELLED_FIGURES | {
    "accuracy_against_cost",
    "accuracy_by_budget",
    "bits_per_site",
    "entropy_against_cost",
    "entropy_distribution",
    "learning_curves",
    "sensitivity_against_entropy",
    "synthetic_easiest",
    "synthetic_hardest",
}
PLOTS = {
    "accuracy_by_budget",
    "bits_per_site",
    "confusion",
    "entropy_cost_synthetic",
    "entropy_cost_test",
    "entropy_histogram",
    "learning_curves",
    "sensitivity",
}


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_every_file_is_written(reports: Path, unlabelled: Path) -> None:
    plots = {f"plots/{name}.csv" for name in PLOTS}
    always = plots | {"index.html", "metrics.json", "per_image.csv"}
    assert set(contents(reports)) == always | {f"figures/{name}.png" for name in FIGURES}
    fewer = {f"figures/{name}.png" for name in FIGURES - LABELLED_FIGURES}
    assert set(contents(unlabelled)) == always | fewer


def test_without_activation_widths_their_figures_are_left_out(
    make_artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    changes = {"quantization": {"activation_bits": [32]}, "fixed": {"bits": 32}}
    evaluation = make_artifacts(tmp_path / "artifacts", changes=changes) / "evaluation"
    columns = pd.read_csv(evaluation / "per_image.csv").drop(columns="lowest_bits")
    columns.to_csv(evaluation / "per_image.csv", index=False)
    sites = pd.DataFrame(columns=["site", "name", "macs", "low", "high", "bits_32"])
    sites.to_csv(evaluation / "sites.csv", index=False)
    write_report(tmp_path / "artifacts", tmp_path / "reports", grid_images=4)
    left_out = {"bits_per_site", "sensitivity_against_entropy"}
    figures = {path.stem for path in (tmp_path / "reports/figures").iterdir()}
    assert figures == FIGURES - left_out
    page = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    assert "W4, A{32}" in page and "Activations are float32" in page
    assert "Bit-widths differ between images" not in page


def test_a_second_run_writes_the_same_bytes(artifacts: Path, reports: Path, tmp_path: Path) -> None:
    write_report(artifacts, tmp_path, grid_images=16)
    assert contents(tmp_path) == contents(reports)


def test_figures_are_opaque_pngs_of_one_width(reports: Path) -> None:
    for path in (reports / "figures").glob("*.png"):
        with Image.open(path) as image:
            assert image.width == 1144, path.name
            colours = image.convert("RGB").getcolors(1 << 20) or []
            assert len(colours) > 20, f"{path.name} is nearly blank"


def test_metrics_are_those_of_the_evaluation(artifacts: Path, reports: Path) -> None:
    measured = (artifacts / "evaluation/metrics.json").read_text()
    assert (reports / "metrics.json").read_text() == measured


def test_per_image_table_has_the_public_columns(reports: Path) -> None:
    public = "index label prediction teacher_prediction entropy_nats bit_flops_percent mean_bits"
    assert set(public.split()) <= set(pd.read_csv(reports / "per_image.csv").columns)


def test_confusion_rows_count_to_the_measured_matrix(artifacts: Path, reports: Path) -> None:
    rows = pd.read_csv(reports / "plots/confusion.csv")
    assert list(rows.columns) == ["actual", "predicted"]
    names = json.loads((artifacts / "teacher/teacher.json").read_text())["class_names"]
    counted = rows.value_counts()
    measured = pd.read_csv(artifacts / "evaluation/confusion.csv")
    for one in measured[measured["student"] > 0].itertuples():
        assert counted[names[one.label], names[one.prediction]] == one.student
    assert counted.sum() == measured["student"].sum()


def test_histogram_columns_sum_to_all_images(reports: Path) -> None:
    table = pd.read_csv(reports / "plots/entropy_histogram.csv")
    for group in ("test", "one_hot", "soft"):
        assert table[f"{group}_percent"].sum() == pytest.approx(100, abs=0.01)


def test_without_labels_plots_keep_their_columns(reports: Path, unlabelled: Path) -> None:
    for path in (reports / "plots").iterdir():
        without = pd.read_csv(unlabelled / "plots" / path.name)
        assert set(pd.read_csv(path).columns) <= set(without.columns), path.name
    budget = pd.read_csv(unlabelled / "plots/accuracy_by_budget.csv")
    assert budget["top1"].isna().all() and budget["agreement"].notna().all()
    assert pd.read_csv(unlabelled / "plots/confusion.csv").empty
    metrics = json.loads((unlabelled / "metrics.json").read_text())
    assert "top1" not in json.dumps(metrics) and metrics["data"] == {"name": None}


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("evaluation/sites.csv", "evaluate"),
        ("export/export.json", "export"),
        ("fixed/history.csv", "finetune_fixed"),
        ("student/history.csv", "finetune"),
        ("similarity/similarity.safetensors", "similarity"),
        ("synthetic/manifest.json", "synthesize"),
        ("teacher/teacher.json", "teacher"),
    ],
)
def test_a_missing_file_names_its_stage(
    make_artifacts: Callable[..., Path], tmp_path: Path, file: str, stage: str
) -> None:
    folder = make_artifacts(tmp_path / "artifacts")
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"run `dvc repro {stage}`")):
        write_report(folder, tmp_path / "reports")
    assert not (tmp_path / "reports").exists()


def test_images_of_another_set_are_refused(
    make_artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_artifacts(tmp_path / "artifacts")
    path = folder / "evaluation/synthetic_per_image.csv"
    table = pd.read_csv(path)
    table["index"] += 7
    table.to_csv(path, index=False)
    with pytest.raises(ValueError, match="the evaluation belongs to another set"):
        write_report(folder, tmp_path / "reports")
