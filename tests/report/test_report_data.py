"""The report of a run without labelled data, and what it says of classes whose order had to be
matched."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from dynadfq.report.data_words import data_notes
from dynadfq.report.render import write_report

LEFT_OUT = {"class_similarity", "confusion"}


@pytest.fixture(scope="module")
def unlabelled(
    make_artifacts: Callable[..., Path],
    make_unlabelled: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The report of artifacts without labels."""
    folder = tmp_path_factory.mktemp("unlabelled")
    write_report(
        make_unlabelled(make_artifacts(folder / "artifacts", synthetic=120)),
        folder / "reports",
        grid_images=4,
    )
    return folder / "reports"


def test_the_figures_that_need_labels_are_left_out_and_no_other(
    unlabelled: Path, reports: Path
) -> None:
    made, all_of_them = (
        {path.stem for path in (folder / "figures").iterdir()} for folder in (unlabelled, reports)
    )
    assert all_of_them - made == LEFT_OUT and made < all_of_them
    page = (unlabelled / "index.html").read_text(encoding="utf-8")
    assert not [name for name in LEFT_OUT if f'id="{name}"' in page]


def test_the_page_says_that_nothing_is_known_of_accuracy(unlabelled: Path) -> None:
    page = re.sub(r"<[^>]+>", " ", (unlabelled / "index.html").read_text(encoding="utf-8")).replace(
        "\xa0", " "
    )
    assert "no accuracy is known" in page and "agreement on them is optimistic" in page
    assert "the student agrees with its teacher on" in page and "Of 120 synthetic images" in page
    assert (
        "top-1" not in page.split("</style>")[-1].replace("top-1, the confusions", "")
        and "no test images" in page
    )
    assert not re.search(r"\bnan\b", page, flags=re.IGNORECASE)
    metrics = json.loads((unlabelled / "metrics.json").read_text())
    assert "top1" not in json.dumps(metrics) and metrics["data"] == {"name": None}


def test_plots_keep_their_files_and_columns(unlabelled: Path, reports: Path) -> None:
    for path in sorted((reports / "plots").iterdir()):
        without = pd.read_csv(unlabelled / "plots" / path.name)
        assert set(pd.read_csv(path).columns) <= set(without.columns), path.name
    budget = pd.read_csv(unlabelled / "plots/accuracy_by_budget.csv")
    assert budget["top1"].isna().all() and budget["agreement"].notna().all()
    assert not len(pd.read_csv(unlabelled / "plots/confusion.csv"))


def measured(top1: float, **data: object) -> dict[str, dict[str, object]]:
    return {"teacher": {"top1": top1}, "data": {"name": "image-folder", "test_images": 500, **data}}


def test_the_order_of_classes_is_reported_and_doubted_where_the_teacher_guesses() -> None:
    assert list(data_notes(measured(70.0), 10)) == []
    words = (
        "sorted folder names, taken to be the teacher's classes in order; first n01440764 = tench"
    )
    [said] = data_notes(measured(70.0, class_order=words, order_assumed=True), 10)
    assert said == f"Class order: {words}."
    _, warning = data_notes(measured(10.2, class_order=words, order_assumed=True), 10)
    assert (
        warning.startswith("Warning: the teacher is right on 10.20") and "data.classes" in warning
    )
    [warning] = data_notes(measured(9.0), 10)
    assert "preprocessing" in warning
