"""The table as a file for programs (CSV) and as a page for people (Markdown)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.compatibility.row import UNTRIED, Row
from benchmarks.markdown import markdown_table
from dynadfq.runtime.resume import atomic_write

TABLE = Path("benchmarks/reports/compatibility.csv")
DOCUMENT = Path("docs/compatibility.md")
CHECKS = ["traces", "quantizes", "synthesis", "finetuning", "integer_form", "saves", "qdq"]
PACKAGES = ("torch", "torchvision", "timm", "pytorchcv", "fvcore")
PAGE = """\
# Does it work on my network?

{well} of the {all} architectures below pass every check that was tried on them, {complete} of them
all checks; the list below the table says why the others do not. Weights are random and batches have
two images: the checks show that a network is understood and that nothing is lost, not how accurate
it becomes. `dynadfq inspect` shows the same for your own network, layer by layer.

Made by `python -m benchmarks.compatibility` with {versions}.

{table}
## What the columns mean

- **input**: channels × height × width.
- **parameters**: millions.
- **BN**: number of BatchNorm layers, whose statistics are needed to synthesize images.
- **traces**: rewritten with one module per activation call, the network gives identical outputs.
- **sites**: activations that are quantized.
- **MACs**: millions of multiply-accumulates per image.
- **fvcore**: MACs of convolutions, linear layers and matrix products of the original network as \
counted by fvcore; `=`: the same number.
- **float %**: share of the MACs in operations that are not quantizable layers and stay in \
float32, such as attention.
- **quantized %**: share of the MACs that read quantized activations (placement `relu_output`); \
the others read the image, pooled features, linear bottlenecks, sums after shortcuts, or products \
with gates.
- **quantizes**: a student can be made; with quantization switched off its logits equal the \
teacher's, bit for bit.
- **synthesis**: one iteration of the default method: the loss decreases (`falls`), or is at least \
`finite`.
- **fine-tuning**: one step of a student with candidates of 3, 4 and 5 bits, on noise: the loss is \
finite; weights, activation ranges and selector change.
- **integer form**: the student can be converted (`dynadfq.to_integer_form`), and an image's \
logits do not depend on its batch; in brackets, the number of operations that stay in float32, so \
that engines may differ in the last bit.
- **saves**: after saving and loading, the student gives the same logits and bit-widths, bit for \
bit.
- **QDQ file**: a W8A8 student of scheme `integer` can be written for integer engines \
(`dynadfq.export_qdq`), and onnxruntime gives its class to both images; in brackets, the number of \
convolutions and products that onnxruntime computes in float32. `–`: not tried yet.

## What does not work, and why

{reasons}"""


def versions() -> dict[str, str]:
    """Return the version of each package that a row depends on."""
    return {name: version(name).partition("+")[0] for name in PACKAGES}


def as_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Return one line per row; several reasons are separated by line ends."""
    lines = [{**asdict(row), "reasons": "\n".join(row.reasons)} for row in rows]
    return pd.DataFrame(lines).convert_dtypes()


def read(path: Path = TABLE) -> pd.DataFrame:
    """Return the table that was written last."""
    return pd.read_csv(path).fillna({"reasons": ""}).convert_dtypes()


def write(table: pd.DataFrame) -> None:
    """Write the table and the page."""
    atomic_write(TABLE, table.to_csv(index=False).encode())
    atomic_write(DOCUMENT, document(table, versions()).encode())


def document(table: pd.DataFrame, made_with: Mapping[str, str]) -> str:
    """Return the page."""
    reasons = "".join(
        f"- **{line.architecture}**, {reason}\n"
        for line in table.itertuples()
        for reason in str(line.reasons).splitlines()
    )
    well = table["reasons"] == ""
    return PAGE.format(
        well=well.sum(),
        complete=(well & (table[CHECKS] != UNTRIED).all(axis=1)).sum(),
        all=len(table),
        versions=", ".join(f"{name} {number}" for name, number in made_with.items()),
        table=shown(table),
        reasons=reasons or "Everything that was tried works.\n",
    )


def shown(table: pd.DataFrame) -> str:
    """Return the table in Markdown."""
    macs = table["macs"] + table["float_macs"]
    same = (table["counted_macs"] == macs).fillna(False).astype(bool)
    columns = {
        "architecture": table["architecture"],
        "input": table["input"],
        "parameters": table["parameters"] / 1e6,
        "BN": table["batch_norms"],
        "traces": table["traces"],
        "sites": table["sites"],
        "MACs": macs / 1e6,
        "fvcore": table["counted_macs"].astype(object).mask(same, "="),
        "float %": 100 * table["float_macs"] / macs,
        "quantized %": 100 * table["quantized_macs"] / macs,
        "quantizes": table["quantizes"],
        "synthesis": table["synthesis"],
        "fine-tuning": table["finetuning"],
        "integer form": table["integer_form"],
        "saves": table["saves"],
        "QDQ file": table["qdq"],
    }
    lines = zip(*columns.values(), strict=True)
    return markdown_table(list(columns), [[_text(cell) for cell in line] for line in lines])


def _text(cell: Any) -> str:
    """A dash where nothing was measured, one decimal for a fraction."""
    if pd.isna(cell):
        return UNTRIED
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)
