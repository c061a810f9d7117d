"""Tables, figures and the page of a grid, from the cells that are there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

import dynadfq.report
from benchmarks.cells import statistics_of
from benchmarks.report import claims, tables
from benchmarks.report.figures.layers import layer_statistics
from benchmarks.report.figures.looks import measured, timed
from benchmarks.report.figures.pareto import accuracy_against_cost, accuracy_against_time
from benchmarks.report.figures.studies import panels, parameter_study
from benchmarks.report.findings import findings
from benchmarks.report.results import Line, Record, machines, missing, study_lines
from dynadfq.report.figures import DARK, LIGHT, Theme
from dynadfq.report.images import data_uri, draw
from dynadfq.report.render import write_text
from stages.artifacts import write_table

CAPTIONS = {
    "pareto": (
        "The first table's methods at each of their widths, mean over seeds. Up and left is "
        "better. A bar is one standard deviation over seeds or, of one seed, one standard error "
        "over the test images. A number at the lower edge is the accuracy of a point below it."
    ),
    "time": (
        "The same accuracies over the time of making the images and of fine-tuning the student, "
        "mean over seeds: CPU time on a CPU, wall time on a GPU. One panel per bit-width of the "
        "weights, each with its own scale."
    ),
    "layers": (
        "Each image's mean and standard deviation at the inputs of BatchNorm layers, relative to "
        "the layer's own and averaged over channels. Bars hold the middle half of the images, "
        "lines 90 %."
    ),
    "study": "Top-1 accuracy over the values that were tried.",
}


class Section(NamedTuple):
    """One table of the page; ``numbers`` is what its CSV file holds."""

    name: str
    title: str
    note: str
    table: tables.Table
    data_free: list[bool]
    numbers: pd.DataFrame


class Plate(NamedTuple):
    """A figure with its title and caption."""

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
    answers = list(claims.answers(content, folder))
    sections = list(_sections(content, studies, answers))
    for section in sections:
        write_table(reports / "tables" / f"{section.name}.csv", section.numbers)
        note = f"\n{section.note}\n" if section.note else ""
        text = f"# {section.title}\n\n{section.table.markdown}{note}"
        write_text(reports / "tables" / f"{section.name}.md", text)
    pictures = []
    for plate in _plates(content, studies, folder):
        light = draw(plate.draw, LIGHT)
        (reports / "figures" / f"{plate.name}.png").write_bytes(light)
        pictures.append(_picture(plate, light))
    lacking = missing(content, folder)
    lines = [line for study in studies.values() for line in study]
    page = _template().render(
        title=content["title"],
        students=len(content["students"]),
        teachers={line.teacher: line.teacher_top1 for line in lines if line.teacher_top1},
        test_images=max((line.test_images or 0 for line in lines), default=0),
        machines=machines(content, folder),
        missing=lacking,
        findings=list(findings(next(iter(studies.values()), []), answers, folder)),
        sections=sections,
        plates=pictures,
    )
    write_text(reports / "index.html", page)
    return lacking


def _sections(
    content: Record, studies: dict[str, list[Line]], found: list[claims.Answer]
) -> Iterator[Section]:
    """The claims, where the grid has some, and every study."""
    if found:
        yield Section(
            name="claims",
            title="Claims of the papers",
            note=claims.NOTE,
            table=claims.shown(found),
            data_free=[True] * len(found),
            numbers=claims.plain(found),
        )
    for name, lines in studies.items():
        yield Section(
            name=name,
            title=content["studies"][name]["title"],
            note=content["studies"][name]["note"],
            table=tables.shown(lines),
            data_free=[line.data_free for line in lines],
            numbers=tables.plain(lines),
        )


def _plates(content: Record, studies: dict[str, list[Line]], folder: Path) -> Iterator[Plate]:
    """The figures for which something was measured."""
    lines = measured(next(iter(studies.values()), []))
    if lines:
        figure = partial(accuracy_against_cost, lines)
        yield Plate("pareto", "Accuracy against cost", CAPTIONS["pareto"], figure)
    if timed(lines):
        figure = partial(accuracy_against_time, lines)
        yield Plate("time", "Accuracy against time", CAPTIONS["time"], figure)
    statistics = {
        entry["label"]: pd.read_csv(folder / statistics_of(key))
        for key, entry in content["statistics"].items()
        if (folder / statistics_of(key)).exists()
    }
    if statistics:
        figure = partial(layer_statistics, statistics)
        yield Plate("layers", "Statistics per layer", CAPTIONS["layers"], figure)
    for name, study in studies.items():
        if found := panels(study):
            title = content["studies"][name]["title"]
            figure = partial(parameter_study, found)
            yield Plate(f"study-{name}", title, CAPTIONS["study"], figure)


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


def _template() -> Any:
    places = [Path(__file__).parent, Path(dynadfq.report.__file__).parent]
    environment = Environment(
        loader=FileSystemLoader(places),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.j2")
