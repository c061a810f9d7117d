"""From `artifacts/` to `reports/`: metrics, tables, figures, and one page that holds them all."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dynadfq.report import words
from dynadfq.report.data_words import data_notes, subtitle
from dynadfq.report.exports import file_section
from dynadfq.report.figures import DARK, LIGHT
from dynadfq.report.gallery import Plate, plates
from dynadfq.report.images import data_uri, draw, load_tiles, tile_png
from dynadfq.report.load import Evidence, artifact, load_evidence
from dynadfq.report.plots import plot_tables
from dynadfq.report.tables import extremes, paired_outcome, result_rows
from dynadfq.runtime.resume import atomic_write


def write_report(
    artifacts: Path, reports: Path, title: str | None = None, grid_images: int = 32
) -> None:
    """Write metrics.json, per_image.csv, figures/, plots/ and index.html; the same artifacts give
    the same bytes.

    `grid_images` is the number of images in each grid; a title of None names method, widths and
    data set.
    """
    evidence = load_evidence(artifacts)
    easiest, hardest = (
        load_tiles(artifacts, evidence, which)
        for which in extremes(evidence.synthetic, grid_images)
    )
    for folder in (reports / "figures", reports / "plots"):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(
        reports / "metrics.json",
        json.dumps(without_nan(evidence.metrics), indent=2, sort_keys=True) + "\n",
    )
    shutil.copyfile(artifact(artifacts, "evaluation/per_image.csv"), reports / "per_image.csv")
    for name, table in plot_tables(evidence):
        table.to_csv(
            reports / "plots" / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n"
        )
    shown = []
    for plate in plates(evidence, easiest, hardest):
        light = draw(plate.draw, LIGHT, photographs=bool(plate.tiles))
        (reports / "figures" / f"{plate.name}.png").write_bytes(light)
        shown.append(page_entry(plate, light))
    write_text(reports / "index.html", render_page(evidence, title, shown))


def page_entry(plate: Plate, light: bytes) -> dict[str, Any]:
    """What the template shows of a figure: a light and a dark picture, or the images as tiles of
    their own.
    """
    entry: dict[str, Any] = {
        "name": plate.name,
        "title": plate.title,
        "caption": plate.caption,
        "alt": plate.alt,
    }
    if plate.tiles:
        return entry | {
            "tiles": [
                {"tile": tile, "source": data_uri(tile_png(tile.pixels))} for tile in plate.tiles
            ]
        }
    height, width = int.from_bytes(light[20:24], "big"), int.from_bytes(light[16:20], "big")
    return entry | {
        "light": data_uri(light),
        "dark": data_uri(draw(plate.draw, DARK)),
        "width": width,
        "height": height,
    }


def render_page(evidence: Evidence, title: str | None, shown: list[dict[str, Any]]) -> str:
    """The page as text; all values are escaped by the template engine."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"number": words.number, "signed": words.signed}
    metrics = evidence.metrics
    return environment.get_template("page.html.j2").render(
        title=title or words.default_title(metrics),
        subtitle=subtitle(metrics, evidence.teacher["architecture"]),
        notes=list(data_notes(metrics, len(evidence.class_names))),
        labelled=evidence.score.labelled,
        headline=words.headline(metrics),
        verdict=words.verdict(metrics, paired_outcome(evidence.per_image, evidence.score.against)),
        rows=result_rows(metrics),
        bit_flop=words.bit_flop_sentence(metrics),
        float_inputs=words.float_input_sentence(metrics),
        gate=words.gate(metrics),
        files=file_section(evidence.exports),
        plates=shown,
    )


def write_text(path: Path, text: str) -> None:
    """UTF-8 with Unix line ends on every system, complete or not at all."""
    atomic_write(path, text.encode("utf-8"))


def without_nan(value: Any) -> Any:
    """The same structure with null where a number is not one: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
