"""The page: complete in one file, safe, and honest about what was measured."""

import base64
import html
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dynadfq.report.captions import budget_caption
from dynadfq.report.load import load_evidence
from dynadfq.report.render import render_page, write_report
from dynadfq.report.tables import result_rows

NASTY = [
    "<script>alert(1)</script>",
    'a "quoted" & b',
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
]


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
    def build(
        after: Callable[[Path], None] = lambda folder: None,
        title: str | None = None,
        **options: Any,
    ) -> str:
        folder = make_artifacts(tmp_path / "artifacts", **{"tests": 300, "synthetic": 40} | options)
        after(folder)
        write_report(folder, tmp_path / "reports", title=title, grid_images=4)
        return (tmp_path / "reports/index.html").read_text(encoding="utf-8")

    return build


@pytest.fixture
def text_with(make_artifacts: Callable[..., Path], tmp_path: Path) -> Callable[..., str]:
    """The page without its figures, which these tests need not wait for."""

    def build(**options: Any) -> str:
        evidence = load_evidence(make_artifacts(tmp_path, tests=300, synthetic=40, **options))
        return render_page(evidence, title=None, shown=[])

    return build


@pytest.fixture
def text_of_dial(make_artifacts: Callable[..., Path], tmp_path: Path) -> Callable[[int], str]:
    """The caption below the curve of so many budgets."""

    def build(budgets: int) -> str:
        evidence = load_evidence(make_artifacts(tmp_path, tests=300, synthetic=40, budget=budgets))
        return budget_caption(evidence.budget, result_rows(evidence.metrics), evidence.score)

    return build


def words(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", page)).replace("\N{NO-BREAK SPACE}", " ")


def test_page_is_well_formed_and_needs_nothing_else(page: str) -> None:
    tags = Tags(page)
    assert tags.open == []
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in tags.tags}
    addresses = [
        value
        for _, attrs in tags.tags
        for key, value in attrs.items()
        if key in {"src", "srcset", "href"}
    ]
    assert addresses
    assert all(value and value.startswith("data:image/png;base64,") for value in addresses)
    assert "url(" not in page
    assert "@import" not in page


def test_every_chart_is_embedded_as_it_lies_on_disk(page: str, reports: Path) -> None:
    charts = [
        path
        for path in (reports / "figures").glob("*.png")
        if not path.stem.startswith("synthetic_")
    ]
    assert len(charts) == 9
    for path in charts:
        assert base64.b64encode(path.read_bytes()).decode() in page, path.name


def test_grids_show_every_image_with_its_label(page: str) -> None:
    for name in ("synthetic_easiest", "synthetic_hardest"):
        section = page[page.index(f'id="{name}"') :].split("</figure>")[0]
        assert section.count("<li>") == 16
        assert section.count('class="says') == 16
        assert section.count('class="share"') >= 16


def test_every_picture_has_alternative_text_and_every_figure_a_caption_with_a_number(
    page: str,
) -> None:
    assert all(attrs.get("alt") for tag, attrs in Tags(page).tags if tag == "img")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.S)
    assert len(captions) == 11
    assert all(re.search(r"\d", caption) for caption in captions)


def test_dark_mode_brings_its_own_pictures(page: str) -> None:
    assert page.count('<source media="(prefers-color-scheme: dark)"') == 9


def test_table_holds_the_four_networks(page: str, reports: Path) -> None:
    metrics = json.loads((reports / "metrics.json").read_text())
    body = page.split("<tbody>")[1].split("</tbody>")[0]
    rows = re.findall(r'<tr class="(\w+)">(.*?)</tr>', body, re.S)
    assert [role for role, _ in rows] == ["teacher", "fixed", "dynamic", "control"]
    for (_, row), key in zip(rows, ("teacher", "fixed", "student", "control"), strict=True):
        assert f"<td>{metrics[key]['top1']:.2f}" in row


def test_headline_says_better_when_it_is(page: str, reports: Path) -> None:
    metrics = json.loads((reports / "metrics.json").read_text())
    gain = metrics["student"]["top1"] - metrics["fixed"]["top1"]
    assert gain > 0
    assert f"{gain:.2f} points above the fixed 4-bit student" in words(page)
    assert "0.90 points above the same bits dealt to images at random" in words(page)
    assert "which image gets which bits matters" in words(page)


def test_headline_says_worse_when_it_is(text_with: Callable[..., str]) -> None:
    text = words(text_with(noise=0.0, changes={"control": {"top1": 99.9}}))
    assert re.search(r"points below the fixed 4-bit student", text)
    assert re.search(r"points below the same bits dealt to images at random", text)
    assert "the selector chooses worse than chance" in text
    assert "above" not in text.split("Of 300 test images")[0]


def test_no_claim_within_the_controls_spread(text_with: Callable[..., str]) -> None:
    text = words(
        text_with(changes={"student": {"top1": 90.0}, "control": {"top1": 89.9, "top1_std": 0.1}})
    )
    assert "the choice is not shown to matter" in text


def test_gate_passes_quietly_and_fails_with_a_remedy(
    page: str, text_with: Callable[..., str]
) -> None:
    assert "Gate passed" in page
    assert 'role="alert"' not in page
    failed = text_with(changes={"synthetic": {"one_hot_recognized": 71.2}})
    assert 'class="gate failed" role="alert"' in failed
    assert "recognizes 71.2 %" in words(failed)
    assert "images.class_weight" in failed


def test_gate_without_one_hot_images_is_open(text_with: Callable[..., str]) -> None:
    page = text_with(changes={"synthetic": {"one_hot_recognized": None, "one_hot_images": 0}})
    assert "Gate not applicable" in page


def test_names_and_title_are_escaped(page_with: Callable[..., str]) -> None:
    page = page_with(names=NASTY, title="<b>bold</b>")
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert Tags(page).open == []


def test_sensitivity_is_left_out_when_it_was_not_measured(page_with: Callable[..., str]) -> None:
    def forget(folder: Path) -> None:
        path = folder / "evaluation/per_image.csv"
        pd.read_csv(path).assign(lowest_bits=None).to_csv(path, index=False)

    page = page_with(after=forget)
    assert 'id="sensitivity_against_entropy"' not in page
    assert 'id="bits_per_site"' in page


def test_a_method_with_one_hot_labels_and_no_mixing_makes_a_page(
    page_with: Callable[..., str],
) -> None:
    def plainer(folder: Path) -> None:
        path = folder / "evaluation/synthetic_per_image.csv"
        pd.read_csv(path).assign(soft=0).to_csv(path, index=False)
        for name in ("student", "fixed"):
            history = folder / name / "history.csv"
            table = pd.read_csv(history)
            dropped = [c for c in table.columns if c.endswith("_unmixed") or c == "label"]
            table.drop(columns=dropped).to_csv(history, index=False)

    text = words(page_with(after=plainer))
    assert "images are mixed" not in text
    assert "similar classes;" not in text


def test_the_dial_says_what_the_choice_is_worth(page: str) -> None:
    text = words(page.split('id="accuracy_by_budget"')[1].split("</figure>")[0])
    assert (
        "At 7 of 7 budgets it is above the same bits handed to other images (once each), by +0.40 points"
        in text
    )


def test_without_a_dial_there_is_no_curve(page_with: Callable[..., str]) -> None:
    assert "accuracy_by_budget" not in page_with(budget=0)


def test_a_dial_of_its_two_ends_claims_nothing(text_of_dial: Callable[[int], str]) -> None:
    assert text_of_dial(2).endswith("At no budget do images differ in their bits.")
