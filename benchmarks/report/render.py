"""Tables, figures and the page of a grid, from the cells that are there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import dynadfq.report
from benchmarks.report import claims, controls, tables
from benchmarks.report.findings import findings
from benchmarks.report.plate import Plate
from benchmarks.report.plates import plates
from benchmarks.report.results import Line, Record, machines, missing, study_lines
from dynadfq.report.figures import LIGHT
from dynadfq.report.images import data_uri, draw, tile_png
from dynadfq.report.render import both_pictures, write_text
from stages.artifacts import write_table


class Section(NamedTuple):
    """One table of the page; ``numbers`` is what its CSV file holds."""

    name: str
    title: str
    note: str
    table: tables.Table
    data_free: list[bool]
    numbers: pd.DataFrame


def write_reports(content: Record, reports: Path, folder: Path = Path(".")) -> list[str]:
    """Write a grid's report and return the names of the cells that it lacks; equal cells give equal
    bytes.
    """
    shutil.rmtree(reports, ignore_errors=True)
    for part in ("tables", "figures"):
        (reports / part).mkdir(parents=True)
    studies = {name: study_lines(content, name, folder) for name in content["studies"]}
    answers = list(claims.answers(content, folder))
    compared = list(controls.comparisons(content, studies, folder))
    sections = list(_sections(content, studies, answers, compared))
    for section in sections:
        write_table(reports / "tables" / f"{section.name}.csv", section.numbers)
        note = f"\n{section.note}\n" if section.note else ""
        text = f"# {section.title}\n\n{section.table.markdown}{note}"
        write_text(reports / "tables" / f"{section.name}.md", text)
    pictures = []
    for plate in plates(content, studies, folder):
        light = draw(plate.draw, LIGHT, photographs=bool(plate.rows))
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
        plates=[picture for picture in pictures if "rows" not in picture],
        image_plates=[picture for picture in pictures if "rows" in picture],
    )
    write_text(reports / "index.html", page)
    return lacking


def _sections(
    content: Record,
    studies: dict[str, list[Line]],
    found: list[claims.Answer],
    compared: list[controls.Comparison],
) -> Iterator[Section]:
    """The claims, where the grid has some, every study, and the controls that were measured."""
    if found:
        yield Section(
            name="claims",
            title="Claims",
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
    if compared:
        yield Section(
            name="controls",
            title="Controls of dynamic students",
            note=controls.NOTE,
            table=controls.shown(compared),
            data_free=[one.data_free for one in compared],
            numbers=controls.plain(compared),
        )


def _picture(plate: Plate, light: bytes) -> dict[str, Any]:
    """What the template shows: a light and a dark picture, or single images."""
    text = {"name": plate.name, "title": plate.title, "caption": plate.caption}
    if plate.rows:
        rows = {
            heading: [
                (tile, data_uri(tile_png(tile.pixels)), name)
                for tile, name in zip(tiles, plate.classes, strict=True)
            ]
            for heading, tiles in plate.rows.items()
        }
        return {**text, "rows": rows}
    return text | both_pictures(plate.draw, light)


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
