"""The model card: what a student was made from, how, and what it costs, for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dynadfq.quant.bit_budget import cost_range

if TYPE_CHECKING:
    from dynadfq.quant.model import Student

REAL_DATA = "real_data"  # the one method that is not data-free
MOST_NAMES = 20
NOT_MEASURED = "Stage `evaluate` measures it and writes this card with the results to `artifacts/evaluation/model_card.md`."


def provenance(method: str, images: int, steps: int, rounding: str) -> dict[str, Any]:
    """How a student was made, for ``Student.made``: method, its images, steps of fine-tuning,
    rounding of weights.
    """
    return {
        "method": method,
        "data_free": method != REAL_DATA,
        "images": images,
        "steps": steps,
        "rounding": rounding,
    }


def model_card(student: Student, size: int, measured: Mapping[str, Any] | None = None) -> str:
    """A page of Markdown; ``size`` is that of ``model.safetensors`` in bytes, ``measured`` the
    stage's metrics.
    """
    scheme, known = student.scheme, student.description
    candidates = ",".join(map(str, scheme.activation_bits))
    choice = "chosen for each image" if scheme.dynamic else "the same for all images"
    sections = {
        "Made from": _origin(known),
        "Made how": _making(student.provenance),
        "Widths and cost": [*_widths(student), f"`model.safetensors`: {size:,} bytes"],
        "Accuracy": [NOT_MEASURED] if measured is None else _accuracy(measured),
    }
    head = (
        f"# {known.get('architecture') or 'A classifier'}, W{scheme.weight_bits}, A{{{candidates}}}\n\n"
        f"A quantized image classifier, activation widths {choice}. `student.json` has the same facts for programs.\n"
    )
    return head + "".join(_section(name, lines) for name, lines in sections.items())


def _section(name: str, lines: Iterable[str]) -> str:
    """A heading over a list; lines of a table stay as they are."""
    body = (line if not line or line.startswith("|") else f"- {line}" for line in lines)
    return "\n".join(["", f"## {name}", "", *body, ""])


def _origin(known: Mapping[str, Any]) -> list[str]:
    names, top1 = list(known.get("class_names", ())), known.get("float_top1")
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    mean, std = (", ".join(f"{value:.4g}" for value in known[key]) for key in ("mean", "std"))
    shape = " × ".join(map(str, known["input_shape"]))
    return [
        f"Float network: {known.get('architecture') or 'no architecture of a zoo'}, {known.get('source')}",
        "Its top-1: " + ("unknown" if top1 is None else f"{top1:.2f} %, as its own card says"),
        f"sha256 of its weights: {known.get('sha256')}",
        f"Input: {shape}, pixels in 0 … 1 less {mean}, over {std}",
        f"Images of other sizes: {_scaling(known)}",
        *_taken_from(known),
        f"{len(names)} classes: {', '.join(names[:MOST_NAMES])}{more}",
    ]


def _scaling(known: Mapping[str, Any]) -> str:
    resize, interpolation = known.get("resize"), known.get("interpolation", "bilinear")
    size = "just cover the input" if resize is None else f"have {resize} pixels on the shorter side"
    return f"scaled ({interpolation}) so that they {size}, then the middle"


def _taken_from(known: Mapping[str, Any]) -> list[str]:
    """Where the facts about input and classes are from, if that is recorded."""
    keys: dict[str, list[str]] = {}
    for key, origin in sorted(known.get("origins", {}).items()):
        keys.setdefault(origin, []).append(key)
    listed = "; ".join(f"{', '.join(names)}: {origin}" for origin, names in keys.items())
    return [f"Taken from: {listed}"] if listed else []


def _making(facts: Mapping[str, Any]) -> list[str]:
    if not facts:
        return ["Not fine-tuned, or not recorded"]
    free = {
        True: "yes: its images were made from the float network alone",
        False: "no: it was fine-tuned on labelled images of a data set",
        None: "not recorded: the images were the caller's",
    }[facts["data_free"]]
    return [
        f"Data-free: {free}",
        f"Method: {facts['method']}",
        f"Images: {facts['images']:,}",
        f"Fine-tuning: {facts['steps']:,} steps" if facts["steps"] else "Fine-tuning: none",
        f"Weights rounded first by: {facts['rounding']}",
    ]


def _widths(student: Student) -> list[str]:
    scheme, cost = student.scheme, cost_range(student)
    sites = len(student.sites)
    shared = {"channel": "an output channel", "tensor": "a tensor"}[scheme.weight_granularity]
    lines = [f"Weights: {scheme.weight_bits} bits, one grid {shared}"]
    if student.selector is None:
        lines += [
            f"Activations: {scheme.activation_bits[0]} bits at {sites} sites ({scheme.placement})"
        ]
        lines += [f"bit-FLOPs: {cost['target']:.3f} % of the float network's"]
    else:
        widths = ", ".join(map(str, scheme.activation_bits))
        free = sites - student.selector.fixed_sites
        lines += [
            f"Activations: {widths} bits, chosen at {free} of {sites} sites ({scheme.placement})",
            f"bit-FLOPs: {cost['cheapest']:.3f} … {cost['dearest']:.3f} % of the float network's; the target was "
            f"{cost['target']:.3f} %; the selector's own {student.selector_overhead_percent:.3f} % are not included",
            f"CostCurve: multiplier {student.multiplier:.6g}"
            + ("" if student.multiplier else ", as trained"),
        ]
    return [
        *lines,
        f"Multiply-accumulates that read float32 inputs: {student.cost.float_input_macs_percent:.2f} %",
    ]


def _accuracy(measured: Mapping[str, Any]) -> list[str]:
    data, student, fixed = measured["data"], measured["student"], measured["fixed"]
    on = (
        f"{measured['synthetic']['num_images']:,} synthetic images, on which it was trained: agreement is optimistic, "
        "and without labelled images no accuracy is known"
        if data["name"] is None
        else f"{data['test_images']:,} test images of {data['name']}"
    )
    rows = {
        "float": measured["teacher"],
        f"fixed width, {fixed['bits']} bits": fixed,
        "this student": student,
        "its bits handed to other images": {
            **measured["control"],
            "bit_flops_percent": student["bit_flops_percent"],
        },
    }
    return [
        f"Measured on {on}, after the last step of fine-tuning",
        "",
        "| network | top-1, % | bit-FLOPs, % of float | agrees with float, % |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {name} | {_or_dash(one, 'top1')} | {one['bit_flops_percent']:.3f} | {_or_dash(one, 'agreement')} |"
            for name, one in rows.items()
        ),
    ]


def _or_dash(one: Mapping[str, Any], key: str) -> str:
    return f"{one[key]:.2f}" if key in one else "–"
