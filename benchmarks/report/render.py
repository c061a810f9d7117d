"""Tables, figures and the page of a grid, from the cells that are there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

import dynadfq.report
from benchmarks.cells import statistics_of
from benchmarks.report import claims
from benchmarks.report.claims import Answer, answers
from benchmarks.report.figures import (
    accuracy_against_cost,
    layer_statistics,
    measured,
    panels,
    parameter_study,
)
from benchmarks.report.results import Line, Record, circumstances, missing, study_lines
from benchmarks.report.tables import markdown, plain, shown
from dynadfq.report.figures import DARK, LIGHT, Theme
from dynadfq.report.images import data_uri, draw
from dynadfq.report.render import write_text
from stages.artifacts import write_table

CLAIMS = "Claims of the papers"
NUMBERS = 7  # columns at the end of a table that hold numbers
PROTOCOL = (
    "Accuracy is that of the last step, as mean ± standard deviation over seeds where there are several. Every method "
    "has the same teacher, number of images and fine-tuning steps, and the same synthesis iterations but where "
    "benchmarks/grids says otherwise."
)


class Plate(NamedTuple):
    """A figure with its words."""

    name: str
    title: str
    caption: str
    draw: Callable[[Theme], Figure]


def write_reports(content: Record, reports: Path, folder: Path = Path(".")) -> list[str]:
    """Write a grid's report and return the names of the cells that it lacks; equal cells give equal
    bytes.
    """
    shutil.rmtree(reports, ignore_errors=True)
    for part in ("tables", "figures"):
        (reports / part).mkdir(parents=True)
    studies = {name: study_lines(content, name, folder) for name in content["studies"]}
    for name, lines in studies.items():
        write_table(reports / "tables" / f"{name}.csv", plain(lines))
        study = content["studies"][name]
        text = f"# {study['title']}\n\n{markdown(shown(lines))}" + (
            f"\n{study['note']}\n" if study["note"] else ""
        )
        write_text(reports / "tables" / f"{name}.md", text)
    found = list(answers(content, folder))
    if found:
        write_table(reports / "tables" / "claims.csv", claims.plain(found))
        write_text(
            reports / "tables" / "claims.md",
            f"# {CLAIMS}\n\n{markdown(claims.shown(found))}\n{claims.NOTE}\n",
        )
    pictures = []
    for plate in plates(content, studies, folder):
        light = draw(plate.draw, LIGHT)
        (reports / "figures" / f"{plate.name}.png").write_bytes(light)
        pictures.append(_picture(plate, light))
    lacking = missing(content, folder)
    write_text(reports / "index.html", _page(content, studies, found, pictures, lacking, folder))
    return lacking


def plates(content: Record, studies: dict[str, list[Line]], folder: Path) -> Iterator[Plate]:
    """The figures for which something was measured."""
    lines = measured(next(iter(studies.values()), []))
    if lines:
        caption = (
            "The first table's methods at each of their widths, mean over seeds. Up and left is better. Points of "
            "nearly equal cost stand side by side; numbers at the lower edge belong to points below it."
        )
        yield Plate(
            "pareto",
            "Accuracy against cost",
            caption,
            lambda theme: accuracy_against_cost(lines, theme),
        )
    tables = {
        entry["label"]: pd.read_csv(folder / statistics_of(key))
        for key, entry in content["statistics"].items()
        if (folder / statistics_of(key)).exists()
    }
    if tables:
        caption = (
            "Each image's mean and standard deviation at the inputs of BatchNorm layers, relative to the layer's own "
            "and averaged over channels. Bars hold the middle half of the images, lines 90 %."
        )
        yield Plate(
            "layers", "Statistics per layer", caption, lambda theme: layer_statistics(tables, theme)
        )
    for name, study in studies.items():
        if found := panels(study):
            yield Plate(
                f"study-{name}",
                content["studies"][name]["title"],
                "Top-1 accuracy over the tried values.",
                lambda theme, found=found: parameter_study(found, theme),  # type: ignore[misc]
            )


def _picture(plate: Plate, light: bytes) -> dict[str, Any]:
    return {
        "name": plate.name,
        "title": plate.title,
        "caption": plate.caption,
        "light": data_uri(light),
        "dark": data_uri(draw(plate.draw, DARK)),
        "width": int.from_bytes(light[16:20], "big"),
        "height": int.from_bytes(light[20:24], "big"),
    }


def _page(
    content: Record,
    studies: dict[str, list[Line]],
    found: list[Answer],
    pictures: list[dict[str, Any]],
    lacking: list[str],
    folder: Path,
) -> str:
    places = [Path(__file__).parent, Path(dynadfq.report.__file__).parent]
    environment = Environment(
        loader=FileSystemLoader(places), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    tables = {name: shown(lines) for name, lines in studies.items()}
    sections = [
        {
            "name": name,
            "title": content["studies"][name]["title"],
            "note": content["studies"][name]["note"],
            "table": tables[name],
            "words": len(tables[name].headings) - NUMBERS,
            "free": [line.data_free for line in lines],
        }
        for name, lines in studies.items()
    ]
    if found:
        answered = claims.shown(found)
        words = len(answered.headings) - claims.NUMBERS
        section = {
            "name": "claims",
            "title": CLAIMS,
            "note": claims.NOTE,
            "table": answered,
            "words": words,
        }
        sections.insert(0, {**section, "free": [True] * len(found)})
    return environment.get_template("page.html.j2").render(
        title=content["title"],
        subtitle=_subtitle(content, studies),
        notes=[PROTOCOL, circumstances(content, folder)],
        missing=lacking,
        studies=sections,
        plates=pictures,
    )


def _subtitle(content: Record, studies: dict[str, list[Line]]) -> str:
    lines = [line for study in studies.values() for line in study]
    tested = max((line.test_images for line in lines if line.test_images is not None), default=0)
    teachers = {line.teacher: line.teacher_top1 for line in lines if line.teacher_top1 is not None}
    names = " · ".join(f"{name}: float top-1 {top1:.2f} %" for name, top1 in teachers.items())
    return f"{names} · {tested:,} test images · {len(content['students'])} students"
