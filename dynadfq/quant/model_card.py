"""The model card: a student's source, training and cost as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MOST_NAMES = 20
NOT_MEASURED = (
    "Stage `evaluate` measures it and writes this card with the results to "
    "`artifacts/evaluation/model_card.md`."
)


def provenance(
    method: str, data_free: bool | None, images: int, steps: int, rounding: str
) -> dict[str, Any]:
    """Return how a student was made, for ``Student.provenance``.

    Args:
        method: name of the method.
        data_free: whether its images are made without a data set; None if that is not known.
        images: number of images.
        steps: steps of fine-tuning.
        rounding: rounding of the weights before fine-tuning.
    """
    return {
        "method": method,
        "data_free": data_free,
        "images": images,
        "steps": steps,
        "rounding": rounding,
    }


def model_card(facts: Mapping[str, Any], measured: Mapping[str, Any] | None = None) -> str:
    """Return a page of Markdown.

    Args:
        facts: content of ``student.json``.
        measured: metrics of stage ``evaluate``, where there are any.
    """
    scheme = facts["scheme"]
    teacher = facts["teacher"]
    widths = scheme["activation_bits"]
    candidates = ",".join(map(str, widths))
    choice = "chosen for each image" if len(widths) > 1 else "the same for all images"
    name = teacher.get("architecture") or "A classifier"
    sections = {
        "Source": _source(teacher),
        "Training": _training(facts["provenance"]),
        "Bit-widths and cost": [*_widths(facts), f"`model.safetensors`: {facts['bytes']:,} bytes"],
        "Accuracy": [NOT_MEASURED] if measured is None else _accuracy(measured),
    }
    head = (
        f"# {name}, W{scheme['weight_bits']}, A{{{candidates}}}\n\n"
        f"A quantized image classifier, activation widths {choice}. "
        "`student.json` has the same facts for programs.\n"
    )
    return head + "".join(_section(title, lines) for title, lines in sections.items())


def _section(name: str, lines: Iterable[str]) -> str:
    """A heading over a list; lines of a table stay as they are."""
    body = (line if not line or line.startswith("|") else f"- {line}" for line in lines)
    return "\n".join(["", f"## {name}", "", *body, ""])


def _source(teacher: Mapping[str, Any]) -> list[str]:
    names = list(teacher.get("class_names", ()))
    top1 = teacher.get("float_top1")
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    mean, std = (", ".join(f"{value:.4g}" for value in teacher[key]) for key in ("mean", "std"))
    shape = " × ".join(map(str, teacher["input_shape"]))
    architecture = teacher.get("architecture") or "no architecture of a zoo"
    return [
        f"Float network: {architecture}, {teacher.get('source')}",
        "Its top-1: " + ("unknown" if top1 is None else f"{top1:.2f} %, as stated by its source"),
        f"sha256 of its weights: {teacher.get('sha256')}",
        f"Input: {shape}, (pixel - mean) / std of pixels in 0 … 1; mean {mean}; std {std}",
        f"Images of other sizes: {_resizing(teacher)}",
        *_origins(teacher),
        f"{len(names)} classes: {', '.join(names[:MOST_NAMES])}{more}",
    ]


def _resizing(teacher: Mapping[str, Any]) -> str:
    resize = teacher.get("resize")
    interpolation = teacher.get("interpolation", "bilinear")
    size = (
        "to just cover the input" if resize is None else f"to {resize} pixels on the shorter side"
    )
    return f"scaled ({interpolation}) {size}, then center-cropped"


def _origins(teacher: Mapping[str, Any]) -> list[str]:
    """Where the facts about input and classes come from, if that is recorded."""
    keys: dict[str, list[str]] = {}
    for key, origin in sorted(teacher.get("origins", {}).items()):
        keys.setdefault(origin, []).append(key)
    listed = "; ".join(f"{', '.join(names)}: {origin}" for origin, names in keys.items())
    return [f"Origin of these facts: {listed}"] if listed else []


def _training(provenance: Mapping[str, Any]) -> list[str]:
    if not provenance:
        return ["Not fine-tuned, or not recorded"]
    data_free = {
        True: "yes: its images were made from the float network alone",
        False: "no: it was fine-tuned on labelled images of a data set",
        None: "not recorded: the images were the caller's",
    }[provenance["data_free"]]
    steps = provenance["steps"]
    return [
        f"Data-free: {data_free}",
        f"Method: {provenance['method']}",
        f"Images: {provenance['images']:,}",
        f"Fine-tuning: {steps:,} steps" if steps else "Fine-tuning: none",
        f"Weight rounding before it: {provenance['rounding']}",
    ]


def _widths(facts: Mapping[str, Any]) -> list[str]:
    scheme = facts["scheme"]
    cost = facts["cost"]
    sites = len(facts["sites"])
    granularity = "output channel" if scheme["weight_granularity"] == "channel" else "tensor"
    widths = ", ".join(map(str, scheme["activation_bits"]))
    placement = scheme["placement"]
    lines = [f"Weights: {scheme['weight_bits']} bits, one scale per {granularity}"]
    if len(scheme["activation_bits"]) > 1:
        lines += [
            f"Activations: {widths} bits, chosen at {cost['dynamic_sites']} of {sites} sites "
            f"({placement})",
            f"bit-FLOPs: {cost['lowest']:.3f} … {cost['highest']:.3f} % of the float network's; "
            f"the target was {cost['target']:.3f} %; "
            f"the selector's own {cost['selector']:.3f} % are not included",
            f"Lagrange multiplier: {_multiplier(facts['multiplier'])}",
        ]
    else:
        lines += [
            f"Activations: {widths} bits at {sites} sites ({placement})",
            f"bit-FLOPs: {cost['target']:.3f} % of the float network's",
        ]
    return [*lines, f"MACs that read float32 inputs: {cost['float_input_macs']:.2f} %"]


def _multiplier(value: float) -> str:
    return f"{value:.6g} nats per percentage point of bit-FLOPs" if value else "0, as trained"


def _accuracy(measured: Mapping[str, Any]) -> list[str]:
    student = measured["student"]
    fixed = measured["fixed"]
    control = {**measured["control"], "bit_flops_percent": student["bit_flops_percent"]}
    rows = {
        "float": measured["teacher"],
        f"fixed width, {fixed['bits']} bits": fixed,
        "this student": student,
        "control: its bits given to other images": control,
    }
    return [
        f"Measured on {_measured_images(measured)}, after the last step of fine-tuning",
        "",
        "| network | top-1, % | bit-FLOPs, % of float | agrees with float, % |",
        "| --- | ---: | ---: | ---: |",
        *(_row(name, values) for name, values in rows.items()),
    ]


def _measured_images(measured: Mapping[str, Any]) -> str:
    data = measured["data"]
    if data["name"] is not None:
        return f"{data['test_images']:,} test images of {data['name']}"
    return (
        f"{measured['synthetic']['num_images']:,} synthetic images, on which it was trained: "
        "agreement is optimistic, and without labelled images no accuracy is known"
    )


def _row(name: str, values: Mapping[str, Any]) -> str:
    top1 = _number(values, "top1")
    agreement = _number(values, "agreement")
    return f"| {name} | {top1} | {values['bit_flops_percent']:.3f} | {agreement} |"


def _number(values: Mapping[str, Any], key: str) -> str:
    return f"{values[key]:.2f}" if key in values else "–"
