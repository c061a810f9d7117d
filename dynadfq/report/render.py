"""From `artifacts/` to `reports/`: metrics, tables, figures, and one page that holds them all."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from dynadfq.report import page
from dynadfq.report.figures import DARK, LIGHT
from dynadfq.report.figures.theme import Theme
from dynadfq.report.gallery import Plate, plates
from dynadfq.report.images import data_uri, draw, load_tiles, tile_png
from dynadfq.report.load import Evidence, load_evidence
from dynadfq.report.plots import plot_tables
from dynadfq.report.tables import at_chance, extremes
from dynadfq.runtime.resume import atomic_write

NO_ORIGIN: Mapping[str, str] = MappingProxyType({})


def write_report(
    artifacts: Path,
    reports: Path,
    title: str | None = None,
    grid_images: int = 32,
    origin: Mapping[str, str] = NO_ORIGIN,
) -> None:
    """Write metrics.json, per_image.csv, figures/, plots/ and index.html.

    The same artifacts and origin give the same bytes.

    Args:
        artifacts: folder of the pipeline's artifacts.
        reports: folder to write to.
        title: heading of the page; None names method, data set and widths.
        grid_images: synthetic images in each grid.
        origin: seed, commit and command of the run, by name, for the page.

    Raises:
        FileNotFoundError: an artifact is missing; the message names the stage to run.
        ValueError: the evaluation belongs to another set of synthetic images.
    """
    evidence = load_evidence(artifacts)
    easiest, hardest = extremes(evidence.synthetic, grid_images)
    figures = list(
        plates(
            evidence,
            load_tiles(artifacts, evidence, easiest),
            load_tiles(artifacts, evidence, hardest),
        )
    )
    for folder in (reports / "figures", reports / "plots"):
        folder.mkdir(parents=True, exist_ok=True)
    for name in ("metrics.json", "per_image.csv"):
        shutil.copyfile(artifacts / "evaluation" / name, reports / name)
    for name, table in plot_tables(evidence):
        text = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        write_text(reports / "plots" / f"{name}.csv", text)
    shown = {}
    for plate in figures:
        light = draw(plate.draw, LIGHT, photographs=bool(plate.tiles))
        (reports / "figures" / f"{plate.name}.png").write_bytes(light)
        shown[plate.name] = page_entry(plate, light)
    write_text(reports / "index.html", render_page(evidence, title, origin, shown))


def page_entry(plate: Plate, light: bytes) -> dict[str, Any]:
    """Return what the template shows: a light and a dark picture, or single images."""
    if plate.tiles:
        tiles = [(tile, data_uri(tile_png(tile.pixels))) for tile in plate.tiles]
        return {"numbers": plate.numbers, "tiles": tiles}
    return {"numbers": plate.numbers, **both_pictures(plate.draw, light)}


def both_pictures(build: Callable[[Theme], Figure], light: bytes) -> dict[str, Any]:
    """Return a figure for both themes, and its size in pixels, from its light PNG."""
    return {
        "light": data_uri(light),
        "dark": data_uri(draw(build, DARK)),
        "width": int.from_bytes(light[16:20], "big"),
        "height": int.from_bytes(light[20:24], "big"),
    }


def render_page(
    evidence: Evidence,
    title: str | None,
    origin: Mapping[str, str],
    shown: dict[str, dict[str, Any]],
) -> str:
    """Return the page as text; all values are escaped by the template engine."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    metrics = evidence.metrics
    data = metrics["data"]
    guessing = evidence.score.labelled and at_chance(
        metrics["teacher"]["top1"], data["test_images"], len(evidence.class_names)
    )
    return environment.get_template("page.html.j2").render(
        title=title or page.title(metrics),
        labelled=evidence.score.labelled,
        guessing=guessing,
        order_assumed=data.get("order_assumed", False),
        images=evidence.score.images,
        measured=f"{evidence.score.total:,}",
        repeats=metrics["control"]["repeats"],
        findings=page.findings(evidence),
        results=page.results(evidence),
        has_static="static" in metrics,
        comparison=page.comparison(evidence),
        setup=page.setup(evidence, origin),
        gate=page.gate(metrics["synthetic"]),
        files=page.files(evidence.exports),
        plates=shown,
    )


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with Unix line ends on every system, complete or not at all."""
    atomic_write(path, text.encode("utf-8"))
