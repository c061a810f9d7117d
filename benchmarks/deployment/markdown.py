"""The measurements as a page of tables."""

from __future__ import annotations

from typing import Any

from benchmarks.markdown import markdown_table

AGREEMENT = (
    *("form", "images", "same class %", "same widths %", "within 1e-4 %", "same bits of logits %"),
    *("worst logit", "… at the same widths"),
)
TIMES = ("network", "batch", "median", "quartiles", "best", "relative", "relative, best")
PAGE = """\
# Deployment: {name}

{what}

## File sizes

{sizes}
## Agreement

Each form is compared with the integer form on {images}. Where logits differ by more than
1e-4 at the same bit-widths, a value lay at a rounding boundary and was rounded the other way.

{agreement}
## Times

Milliseconds per image with {threads} thread(s), measured in turn, {repeats} repeats; relative to
{reference} at the same batch size. Bit-FLOPs model the cost on hardware that has these widths;
milliseconds are those of this machine.

{times}
## How the layers are computed

{forms}
{rest}"""


def page(found: dict[str, Any]) -> str:
    """Return everything in the JSON as Markdown."""
    sizes = [(size["of"], size["bytes"], size["to_float"]) for size in found["sizes"]]
    tables = {
        "sizes": markdown_table(("file", "bytes", "of the float file"), sizes),
        "agreement": markdown_table(AGREEMENT, [_agreement(row) for row in found["agreement"]]),
        "times": markdown_table(TIMES, [_time(row) for row in found["times"]]),
        "forms": markdown_table(("form", "parts"), list(found["forms"].items())),
        "rest": "".join(f"- {line}\n" for line in (*found["not_integer"], *found["missing"])),
    }
    return PAGE.format(**{**found, **tables})


def _agreement(row: dict[str, Any]) -> list[Any]:
    shares = [100.0 * row[name] / row["images"] for name in ("classes", "bits", "close", "logits")]
    worst = [f"{row[name]:.3g}" for name in ("worst", "worst_same_bits")]
    return [row["form"], row["images"], *shares, *worst]


def _time(row: dict[str, Any]) -> list[Any]:
    quartiles = f"{row['lower_quartile']:.2f} … {row['upper_quartile']:.2f}"
    first = [row["name"], row["batch"], row["median"], quartiles, row["best"]]
    return [*first, row["ratio"], row["ratio_of_best"]]
