"""The table of files: sizes beside the float network's, what was checked, and what to do where
nothing was exported."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dynadfq.export.files import FORMATS
from dynadfq.report.exports import NAMES
from dynadfq.report.load import load_evidence
from dynadfq.report.render import render_page

ONNX: dict[str, Any] = {
    "format": "onnx-convinteger", "file": "student-convinteger.onnx", "bytes": 250_345, "images_checked": 1_024,
    "bits_equal": True, "worst_logit_difference": 3e-6, "opset": 21, "kept_layers": ["conv2"],
    "not_integer": ["output: float64 (reads floats)"], "versions": {"torch": "2.15.0", "onnx": "1.23.2"},
}  # fmt: skip
PROGRAM: dict[str, Any] = ONNX | {
    "format": "pt2", "bytes": 900_000, "worst_logit_difference": 0.0, "opset": None, "kept_layers": [],
    "not_integer": [], "versions": {"torch": "2.15.0"},
}  # fmt: skip


def section(make_artifacts: Callable[..., Path], folder: Path, *exports: dict[str, Any]) -> str:
    page = render_page(
        load_evidence(make_artifacts(folder, tests=300, synthetic=40, exports=exports)), None, []
    )
    found = page.split('id="files"')[1].split("</section>")[0]
    return html.unescape(re.sub(r"<[^>]+>", "|", found)).replace("\N{NO-BREAK SPACE}", " ")


def test_every_format_has_a_name() -> None:
    assert set(NAMES) == set(FORMATS)


def test_a_row_for_each_file_with_its_check(
    make_artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    text = section(make_artifacts, tmp_path, ONNX, PROGRAM)
    assert "|Float network||1,000,000||100.0||—||—|" in text
    assert "|Dynamic student, packed codes||180,000||18.0||—||—|" in text
    checked = "1,024 images: same bits, logits within 3e-06; opset 21, onnx 1.23.2, torch 2.15.0"
    assert f"|ONNX, integer operators||250,345||25.0||{checked}||output, conv2|" in text
    assert (
        "|torch.export program||900,000||90.0||1,024 images: same bits, equal logits; torch 2.15.0||—|"
        in text
    )
    assert "A file is only written if" in text


def test_without_a_file_the_page_says_how_to_get_one(
    make_artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    text = section(make_artifacts, tmp_path)
    assert "Dynamic student" in text and not any(name in text for name in NAMES.values())
    assert "No file for other engines was asked for." in text
    assert (
        "dvc exp run -S 'export.formats=[onnx-codes]'" in text
        and "export.formats in params.yaml" in text
    )
