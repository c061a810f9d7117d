"""One table of all ratios, for people and for programs."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.markdown import markdown_table
from benchmarks.speed.ratio import Result

HEAD = ("number", "measured", "ratio", "quartiles", "rounds", "parts (medians)", "aim", "verdict")


def as_json(results: Sequence[Result], device: torch.device) -> dict[str, Any]:
    """Return all numbers, and what they were measured on."""
    return {
        **_setting(device),
        "results": [{**asdict(one), "verdict": one.verdict} for one in results],
    }


def as_markdown(results: Sequence[Result], device: torch.device) -> str:
    """Return the table with a heading, and a note under it for each number."""
    setting = ", ".join(f"{name} {value}" for name, value in _setting(device).items())
    clock = "CPU time of the process" if device.type == "cpu" else "wall time, synchronized"
    notes = dict.fromkeys(f"{one.number}: {one.note}.\n" for one in results if one.note)
    return (
        f"# Speed and memory\n\n{setting}. The two parts of a ratio are measured in turn "
        f"({clock}); the ratio of each round is that of neighbouring measurements.\n\n"
        f"{markdown_table(HEAD, [_row(one) for one in results], words=2)}\n{''.join(notes)}"
    )


def _row(one: Result) -> list[str | None]:
    title = [str(one.number), one.name]
    if one.median is None:
        return [*title, None, None, None, None, None, one.verdict]
    value = f"{one.median:.2f}" + (" s" if one.unit == "s" else "")
    quartiles = f"{one.lower:.2f} … {one.upper:.2f}"
    parts = "" if one.above is None else f"{one.above:.0f} / {one.below:.0f} {one.unit}"
    aim = "" if one.aim is None else f"≤ {one.aim:g}"
    return [*title, value, quartiles, str(one.rounds), parts, aim, one.verdict]


def _setting(device: torch.device) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "torch": torch.__version__,
        "device": f"{device.type} ({name})",
        "threads": str(torch.get_num_threads()),
    }
