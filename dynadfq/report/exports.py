"""What the page says about files: the student's sizes beside the float network's, and what each
export was tried on.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from dynadfq.report.words import SPACE

NAMES = {
    "onnx-codes": "ONNX, products of codes in float32",
    "onnx-convinteger": "ONNX, integer operators",
    "pt2": "torch.export program",
}
MADE_BY = "dvc exp run -S 'export.formats=[onnx-codes]'"
NONE = "No file for other engines was asked for."
SOME = "A file is only written if it chooses the same bits and answers the check images as the student does."
MORE = (
    "or export.formats in params.yaml, writes and checks others: onnx-codes and onnx-convinteger, which need "
    "pip install 'dynadfq[deploy]', and pt2."
)


class File(NamedTuple):
    """A row of the table of files: size in bytes, and in percent of the float network's; both texts
    may be empty.
    """

    name: str
    size: int
    percent_of_float: float
    check: str
    left_in_float: str


def file_section(exports: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of ``artifacts/export/export.json``."""
    return {
        "rows": file_rows(exports),
        "said": SOME if exports["files"] else NONE,
        "command": MADE_BY,
        "more": MORE,
    }


def file_rows(exports: Mapping[str, Any]) -> list[File]:
    """The float network, the packed student, and each exported file."""
    whole = exports["float_bytes"]

    def row(name: str, size: int, check: str = "", left: str = "") -> File:
        return File(name, size, 100 * size / whole, check, left)

    return [
        row("Float network", whole),
        row("Dynamic student, packed codes", exports["packed_bytes"]),
        *(
            row(NAMES[file["format"]], file["bytes"], check(file), left_in_float(file))
            for file in exports["files"]
        ),
    ]


def check(file: Mapping[str, Any]) -> str:
    """What was tried before the file was written, and with which versions."""
    worst = file["worst_logit_difference"]
    logits = f"logits within {worst:.1g}" if worst else "equal logits"
    tools = [f"{package}{SPACE}{release}" for package, release in sorted(file["versions"].items())]
    opset = [f"opset{SPACE}{file['opset']}"] if file["opset"] else []
    return f"{file['images_checked']:,} images: same bits, {logits}; {', '.join(opset + tools)}"


def left_in_float(file: Mapping[str, Any]) -> str:
    """The parts that are not computed in integers, by name."""
    names = [fact.split(":")[0] for fact in file["not_integer"]] + file["kept_layers"]
    return ", ".join(names)
