"""The compatibility table: a row of a network that works, one of a network that does not, and no
row missing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.compatibility import run
from benchmarks.compatibility.checks import examine
from benchmarks.compatibility.counter import count
from benchmarks.compatibility.networks import networks
from benchmarks.compatibility.row import Row
from benchmarks.compatibility.table import CHECKS, DOCUMENT, as_table, document, read, shown, write

SHAPE = (3, 8, 8)


class Tiny(nn.Module):
    """Two convolutions, a gate and a classifier; without BatchNorm where asked."""

    def __init__(self, norm: type[nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 8, 3), norm(8), nn.Conv2d(8, 8, 3)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.norm(self.first(images)))
        x = self.relu(self.second(x)).mean((2, 3))
        return self.fc(x * torch.sigmoid(x))


class Branching(Tiny):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.sum() > 0 else -images)


def row_of(build: type[nn.Module] | object, folder: Path) -> Row:
    row = Row("own/tiny", "3×8×8")
    return examine(row, build, SHAPE, 4, folder)  # type: ignore[arg-type]


def test_a_network_that_works(tmp_path: Path) -> None:
    row = row_of(Tiny, tmp_path)
    assert row.reasons == []
    assert {row.traces, row.quantizes, row.finetuning, row.integer_form, row.saves} == {"yes"}
    assert row.qdq == "yes"
    assert row.synthesis in ("falls", "finite")
    first, second, last = 8 * 3 * 9 * 36, 8 * 8 * 9 * 16, 8 * 4
    assert (row.macs, row.float_macs, row.counted_macs) == (
        first + second + last,
        0,
        first + second + last,
    )
    assert (row.sites, row.batch_norms, row.quantized_macs) == (2, 1, second)


def test_a_network_without_batch_norm_has_a_reason(tmp_path: Path) -> None:
    row = row_of(lambda: Tiny(nn.Identity), tmp_path)  # type: ignore[arg-type]
    assert row.synthesis == "no" and len(row.reasons) == 1
    assert row.reasons[0].startswith("synthesis: ") and "BatchNorm" in row.reasons[0]
    assert {row.traces, row.quantizes, row.finetuning, row.integer_form, row.saves} == {"yes"}
    assert row.qdq == "yes"


def test_a_network_that_does_not_trace_is_not_tried_further(tmp_path: Path) -> None:
    row = row_of(Branching, tmp_path)
    assert (row.traces, row.quantizes, row.finetuning, row.saves) == ("no", "–", "–", "–")
    assert [
        reason for reason in row.reasons if reason.startswith("traces: Branching cannot be traced")
    ]


def test_attention_is_counted(tmp_path: Path) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            mixed: Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
            return mixed

    pytest.importorskip("fvcore.nn")
    assert (
        count(Attention().eval(), torch.randn(1, 6, 4, 4))
        == 16 * 6 * 18 + 2 * 16 * 16 * 6 + 16 * 6 * 6
    )


def test_what_is_written_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        Row(
            "own/a",
            "3×8×8",
            parameters=1,
            macs=10,
            float_macs=30,
            counted_macs=40,
            quantized_macs=5,
            saves="yes",
        ),
        Row("own/b", "3×8×8", reasons=["traces: it branches", "synthesis: no statistics"]),
        Row("own/c", "3×8×8", **dict.fromkeys(CHECKS, "yes")),
    ]
    monkeypatch.setattr("benchmarks.compatibility.table.TABLE", tmp_path / "table.csv")
    monkeypatch.setattr("benchmarks.compatibility.table.DOCUMENT", tmp_path / "page.md")
    monkeypatch.setattr("benchmarks.compatibility.table.versions", lambda: {"torch": "9.9"})
    table = as_table(rows)
    write(table)
    page = (tmp_path / "page.md").read_text()
    assert page == document(read(tmp_path / "table.csv"), {"torch": "9.9"})
    assert "| = | 75.0 | 12.5 |" in page and "- **own/b**, traces: it branches" in page
    counted = "2 of the 3 architectures below pass every check that was tried on them, 1 of them\n"
    assert page.split("\n\n")[1].startswith(counted)
    headings = page.split("\n| architecture | ")[1].splitlines()[0].strip("| ").split(" | ")
    assert all(f"- **{heading}**: " in page for heading in headings)


def test_the_page_shows_every_architecture_of_the_list() -> None:
    names = [architecture for architecture, _ in networks()]
    assert len(names) == len(set(names)) >= 30
    table = read()
    assert table["architecture"].tolist() == names, "run python -m benchmarks.compatibility"
    page = DOCUMENT.read_text()
    assert shown(table) in page
    for row in table.itertuples():
        assert all(f"{row.architecture}**, {line}" in page for line in row.reasons.splitlines())


CHILD = "import sys, time; name, file = sys.argv[1:]; "


def test_a_process_that_fails_or_hangs_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next(networks())[0]

    def row_from(code: str, seconds: float) -> Row:
        monkeypatch.setattr(run, "CHILD", (run.sys.executable, "-c", CHILD + code))
        monkeypatch.setattr(run, "SECONDS", seconds)
        (row,) = run.rows([name], 1, tmp_path)
        return row

    assert row_from("time.sleep(60)", 0.5).reasons[0].startswith("not done after 0.5 s")
    assert "status 3: no room" in row_from("print('no room'); sys.exit(3)", 60).reasons[0]
    finished = json.dumps(asdict(Row(name, "3×8×8", saves="yes")))
    assert row_from(f"open(file, 'w').write({finished!r})", 60).saves == "yes"
    assert row_from("sys.exit(1)", 60).saves == "yes"  # it is there already
