"""The page: complete in one file, safe, and with every number that was measured."""

import base64
import html
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dynadfq.export.files import FORMATS
from dynadfq.report import page as page_tables
from dynadfq.report.config import ReportConfig
from dynadfq.report.load import load_evidence
from dynadfq.report.render import render_page, write_report
from dynadfq.report.tables import NAMES

NASTY = ["<script>alert(1)</script>", 'a "quoted" & b', *(f"class {i}" for i in range(8))]
ONNX: dict[str, Any] = {
    "format": "onnx-codes",
    "bytes": 250_345,
    "images_checked": 1_024,
    "worst_logit_difference": 3e-6,
    "opset": 21,
    "not_integer": ["output: float64 (reads floats)"],
    "versions": {"torch": "2.15.0", "onnx": "1.23.2"},
}
PROGRAM = {
    "format": "pt2",
    "bytes": 900_000,
    "images_checked": 1_024,
    "worst_logit_difference": 0.0,
    "opset": None,
    "not_integer": [],
    "versions": {"torch": "2.15.0"},
}


class Tags(HTMLParser):
    """All start tags with their attributes, and which tags are open at the end."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "source", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(reports: Path) -> str:
    return (reports / "index.html").read_text(encoding="utf-8")


@pytest.fixture
def page_with(make_artifacts: Callable[..., Path], tmp_path: Path) -> Callable[..., str]:
    """The page of artifacts that were changed."""

    def build(after: Callable[[Path], None] = lambda _: None, **options: Any) -> str:
        title = options.pop("title", None)
        folder = make_artifacts(tmp_path / "artifacts", **options)
        after(folder)
        write_report(folder, tmp_path / "reports", title=title, grid_images=4)
        return (tmp_path / "reports/index.html").read_text(encoding="utf-8")

    return build


@pytest.fixture
def text_with(make_artifacts: Callable[..., Path], tmp_path: Path) -> Callable[..., str]:
    """The page without its figures, which these tests need not wait for."""

    def build(**options: Any) -> str:
        return render_page(load_evidence(make_artifacts(tmp_path, **options)), None, {}, shown={})

    return build


def rows(page: str, section: str) -> dict[str, list[str]]:
    """The cells of a section's tables, by their row's heading."""
    part = re.split(r"</section>|</figure>", page.split(f'id="{section}"')[1])[0]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in part.split("<tr>")[1:]]
    return {html.unescape(row[0]): [html.unescape(cell) for cell in row[1:]] for row in cells}


def test_page_is_well_formed_and_needs_nothing_else(page: str) -> None:
    tags = Tags(page)
    assert tags.open == []
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in tags.tags}
    links = {"src", "srcset", "href"}
    addresses = [value for _, attrs in tags.tags for key, value in attrs.items() if key in links]
    assert addresses
    assert all(value and value.startswith("data:image/png;base64,") for value in addresses)
    assert "url(" not in page and "@import" not in page
    assert all(attrs.get("alt") for tag, attrs in tags.tags if tag == "img")


def test_every_chart_is_embedded_as_it_lies_on_disk(page: str, reports: Path) -> None:
    files = (reports / "figures").glob("*.png")
    charts = [path for path in files if not path.stem.startswith("synthetic_")]
    assert len(charts) == page.count('<source media="(prefers-color-scheme: dark)"') == 9
    for path in charts:
        assert base64.b64encode(path.read_bytes()).decode() in page, path.name
    assert all(re.findall(r"<figcaption>\s*(\S+)", page)) and page.count("<figcaption>") == 11


@pytest.mark.parametrize("name", ["synthetic_easiest", "synthetic_hardest"])
def test_grids_show_every_image_with_its_label(page: str, name: str) -> None:
    section = page[page.index(f'id="{name}"') :].split("</figure>")[0]
    assert section.count("<li>") == section.count('class="says') == 16
    assert section.count('class="share"') >= 16


def test_tables_hold_the_results_and_how_far_to_trust_them(text_with: Callable[..., str]) -> None:
    scores = {"teacher": 93.0, "fixed": 90.0, "student": 90.5, "control": 89.6}
    scores |= {"static": 90.2, "ceiling": 91.7}
    page = text_with(changes={name: {"top1": score} for name, score in scores.items()})
    assert rows(page, "results") == {
        "Network": rows(page, "results")["Network"],
        "Float teacher": ["93.00", "—", "100.00", "32.00", "—"],
        "Fixed 4-bit": ["90.00", "−3.00", "2.62", "4.00", "90.00"],
        "Dynamic": ["90.50", "−2.50", "2.60", "4.00", "92.00"],
        "Same bits at random": ["89.60", "−3.40", "2.60", "4.00", "—"],
        NAMES["static"]: ["90.20", "−2.80", "2.60", "4.00", "—"],
        NAMES["ceiling"]: ["91.70", "−1.30", "2.60", "4.10", "—"],
    }
    assert "Results on 300 test images" in page and "dynadfq on cifar10: W4, A{3,4,5}" in page
    compared = rows(page, "comparison")
    assert compared["Fixed 4-bit"] == ["+0.90", "0.40", "−0.8", "40", "29", "0.23"]
    assert compared["Same bits at random"] == ["+0.90", "0.40", "0.0", "40", "29", "0.23"]
    assert set(compared) > {NAMES["static"], NAMES["ceiling"]}
    assert rows(page, "setup")["Bit selector, % of float bit-FLOPs"] == ["0.17"]


def test_numbers_below_the_figures(page: str) -> None:
    budgets = rows(page, "accuracy_by_budget")
    assert budgets["Budgets at which images differ in their bits"] == ["7"]
    assert budgets["of these above the same bits at random"] == ["7"]
    assert budgets["Mean difference to the same bits at random, points"] == ["+0.40"]
    assert rows(page, "learning_curves")["First epoch with mixed images"] == ["21"]
    assert rows(page, "bits_per_site")["Most mean bits (stage1.unit1.body.conv1)"] == ["5.00"]
    assert rows(page, "class_similarity")["Pairs"] == ["45"]
    assert rows(page, "synthetic_easiest")["Images"] == ["16"]


@pytest.mark.parametrize(
    ("recognized", "state", "words"),
    [
        (98.3, "passed", "Gate passed"),
        (71.2, "failed", "images.class_weight"),
        (None, "open", "Gate not applicable"),
    ],
)
def test_the_gate(
    text_with: Callable[..., str], recognized: float | None, state: str, words: str
) -> None:
    page = text_with(changes={"synthetic": {"one_hot_recognized": recognized}})
    assert f'class="gate {state}"' in page and words in page
    assert ('role="alert"' in page) is (state == "failed")
    shown = "—" if recognized is None else str(recognized)
    assert rows(page, "setup")["of these recognized by the teacher, %"] == [shown]


def test_a_teacher_that_guesses_is_warned_of(text_with: Callable[..., str]) -> None:
    warning = "no better than chance"
    assert warning not in text_with(changes={"data": {"class_order": "sorted folder names"}})
    guess = {"teacher": {"top1": 10.2}}
    assert "its preprocessing" in text_with(changes=guess)
    order = {"class_order": "sorted folder names; first n01440764 = tench", "order_assumed": True}
    page = text_with(changes=guess | {"data": order})
    assert warning in page and "data.classes" in page
    assert rows(page, "setup")["Class order"] == [order["class_order"]]


def test_the_heading_names_the_experiment_unless_one_is_given(
    text_with: Callable[..., str],
) -> None:
    assert ReportConfig().title is None
    own: dict[str, Any] = {"data": {"name": "cifar100"}}
    own["quantization"] = {"weight_bits": 3, "activation_bits": [2, 3, 4]}
    assert "<h1>dynadfq on cifar100: W3, A{2,3,4}</h1>" in text_with(changes=own)
    assert page_tables.title({**own, "method": "zeroq", "data": {"name": None}}) == (
        "zeroq without labelled data: W3, A{2,3,4}"
    )


def test_names_and_title_are_escaped(page_with: Callable[..., str]) -> None:
    page = page_with(names=NASTY, title="<b>bold</b>")
    assert "<script" not in page and "<b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert Tags(page).open == []


def test_what_was_not_measured_is_left_out(page_with: Callable[..., str]) -> None:
    """No sensitivity, no budgets, no soft labels, no mixing."""

    def forget(folder: Path) -> None:
        path = folder / "evaluation/per_image.csv"
        pd.read_csv(path).assign(lowest_bits=None).to_csv(path, index=False)
        path = folder / "evaluation/synthetic_per_image.csv"
        pd.read_csv(path).assign(soft=0).to_csv(path, index=False)
        for name in ("student", "fixed"):
            path = folder / name / "history.csv"
            table = pd.read_csv(path)
            table[table.columns[~table.columns.str.contains("_unmixed|label")]].to_csv(path)

    page = page_with(after=forget, budget=0)
    assert 'id="sensitivity_against_entropy"' not in page and "accuracy_by_budget" not in page
    assert rows(page, "learning_curves")["First epoch with mixed images"] == ["—"]


def test_the_epoch_that_early_stopping_kept(page_with: Callable[..., str]) -> None:
    def stop(folder: Path) -> None:
        for name, epochs, kept in (("student", 12, 9), ("fixed", 8, 3)):
            path = folder / name / "history.csv"
            table = pd.read_csv(path).head(epochs)
            agreement = 90.0 - (table["epoch"] - kept).abs()
            table = table.assign(held_back_agreement=agreement, kept=table["epoch"] == kept)
            table.assign(held_back_bit_flops_percent=2.6).to_csv(path, index=False)

    shown = rows(page_with(after=stop), "learning_curves")
    assert shown["Epoch kept of 12"] == ["9"]
    assert shown["Its agreement on held-back images, by which it was chosen, %"] == ["90.00"]


def test_a_student_that_was_not_trained_has_no_learning_curves(
    make_artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    """Methods that only round weights leave a history without rows."""
    folder = make_artifacts(tmp_path / "artifacts")
    for name in ("student", "fixed"):
        path = folder / name / "history.csv"
        pd.read_csv(path).head(0).to_csv(path, index=False)
    write_report(folder, tmp_path / "reports", grid_images=4)
    page = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    assert 'id="learning_curves"' not in page and 'id="bits_per_site"' in page
    assert pd.read_csv(tmp_path / "reports/plots/learning_curves.csv").empty


def test_without_labels_nothing_is_said_of_accuracy(unlabelled: Path) -> None:
    page = (unlabelled / "index.html").read_text(encoding="utf-8")
    assert "no accuracy is known" in page and "agreement on them is optimistic" in page
    assert "Results on 40 synthetic images" in page and "top-1" not in page
    assert rows(page, "comparison")["Same bits at random"][:2] == ["+0.90", "0.40"]
    assert not re.search(r"\bnan\b", re.sub(r"<[^>]+>", " ", page), flags=re.IGNORECASE)


def test_files_with_their_sizes_and_checks(text_with: Callable[..., str]) -> None:
    assert set(page_tables.FORMAT_NAMES) == set(FORMATS)
    found = rows(text_with(exports=[ONNX, PROGRAM]), "files")
    assert found["Float network"] == ["1,000,000", "100.0", "—", "—", "—", "—"]
    assert found["Dynamic student, packed codes"][:2] == ["180,000", "18.0"]
    versions = "opset 21, onnx 1.23.2, torch 2.15.0"
    checked = ["250,345", "25.0", "1,024", "3e-06", versions, "output"]
    assert found["ONNX, products of codes in float32"] == checked
    program = ["900,000", "90.0", "1,024", "0", "torch 2.15.0", "—"]
    assert found["torch.export program"] == program


def test_without_a_file_the_page_says_how_to_get_one(text_with: Callable[..., str]) -> None:
    page = html.unescape(text_with())
    assert set(rows(page, "files")) == {"File", "Float network", "Dynamic student, packed codes"}
    assert "dvc exp run --temp -S '++export.formats=[onnx-codes]'" in page
