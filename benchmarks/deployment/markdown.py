"""The measurements as a page of tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ONE_WIDTH = " bits everywhere"
COST_MODEL = "Bit-FLOPs are a model of cost on hardware that has these widths; milliseconds are those of this machine."
HEAD = (
    *("form", "images", "same class %", "same widths %", "within 1e-4 %", "same bits of logits %"),
    *("worst logit", "… at the same widths"),
)
Row = Sequence[str | int | float]


def page(found: dict[str, Any]) -> str:
    """Everything in the JSON, for people."""
    parts = [
        f"# Deployment: {found['name']}",
        found["what"],
        "## File sizes",
        table(
            ("file", "bytes", "of the float file"),
            [(s["of"], s["bytes"], s["to_float"]) for s in found["sizes"]],
        ),
        "## Agreement",
        f"Each form against integer form, over {found['images']}. Logits beyond 1e-4 are codes that "
        "flipped at a rounding boundary.",
        table(
            HEAD,
            [_agreement(row) for row in found["agreement"]],
        ),
        "## Times",
        f"Milliseconds an image on {found['threads']} thread(s), in turn, {found['repeats']} repeats; relative to "
        f"{found['reference']} at the same batch size.",
        table(
            ("network", "batch", "median", "quartiles", "best", "relative", "relative, best"),
            [_time(row) for row in found["times"]],
        ),
        f"{_widths(found['times'])}{COST_MODEL}",
        "## How the layers are computed",
        table(("form", "parts"), list(found["forms"].items())),
        *(f"- {line}" for line in (*found["not_on_kernels"], *found["missing"])),
        "",
    ]
    return "\n\n".join(parts[:-1]) + "\n"


def table(head: Sequence[str], rows: Sequence[Row]) -> str:
    """A Markdown table.

    >>> print(table(("file", "bytes"), [("model", 1024)]))
    | file | bytes |
    | --- | --- |
    | model | 1,024 |
    """
    lines = [head, ["---"] * len(head), *([_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _agreement(row: dict[str, Any]) -> Row:
    percent = [100.0 * row[name] / row["images"] for name in ("classes", "bits", "close", "logits")]
    return (
        row["form"],
        row["images"],
        *percent,
        f"{row['worst']:.3g}",
        f"{row['worst_same_bits']:.3g}",
    )


def _time(row: dict[str, Any]) -> Row:
    spread = f"{row['lower_quartile']:.2f} … {row['upper_quartile']:.2f}"
    return (
        row["name"],
        row["batch"],
        row["median"],
        spread,
        row["best"],
        row["ratio"],
        row["ratio_of_best"],
    )


def _widths(times: Sequence[dict[str, Any]]) -> str:
    """How long the lowest width takes on 8-bit kernels beside the highest, where both were
    timed.
    """
    batches = dict.fromkeys(row["batch"] for row in times)
    pairs = {
        b: [r["median"] for r in times if r["batch"] == b and r["name"].endswith(ONE_WIDTH)]
        for b in batches
    }
    ratios = [
        f"{low / high:.2f} at batch {batch}"
        for batch, (low, high) in ((b, p) for b, p in pairs.items() if p)
    ]
    if not ratios:
        return ""
    return (
        "8-bit kernels multiply codes of 2 … 8 bits alike, as bytes. Time with the lowest width everywhere over that "
        f"with the highest: {', '.join(ratios)}. "
    )


def _text(cell: str | int | float) -> str:
    return (
        f"{cell:.2f}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else cell
    )
