"""The model card: a student's source, training and cost as a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from dynadfq.quant.config import SELECTOR_PART

MOST_NAMES = 20  # class names on the card
NOT_MEASURED = (
    "- Not measured. `dynadfq evaluate --card` measures it on labelled images and writes this card "
    "with the result; stage `evaluate` writes it to `artifacts/evaluation/model_card.md`."
)
DATA_FREE = {
    True: "yes: no image of a data set was read",
    False: "no: it was fine-tuned on labelled images of a data set",
    None: "not recorded: the images were the caller's",
}
FOR_PROGRAMS = "`student.json` has the same facts for programs."
PAGE = """# {name}, W{weight_bits}, A{{{candidates}}}

{kind}. {programs}

## Source

{source}

## Training

{training}

## Bit-widths and cost

{widths}

## Accuracy

{accuracy}
"""


def provenance(
    method: str,
    data_free: bool | None,
    images: int,
    steps: int,
    rounding: str,
    early_stopping: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return how a student was made, for ``Student.provenance``.

    Args:
        method: name of the method.
        data_free: whether its images are made without a data set; None if that is not known.
        images: number of images that it learned from.
        steps: steps of fine-tuning that it has taken.
        rounding: rounding of the weights before fine-tuning.
        early_stopping: the number of ``held_back_images``, the ``epochs`` that were trained, the
            ``kept_epoch`` (from 1), and its ``agreement`` with the float network on these images,
            in percent; None where the last epoch was kept.
    """
    facts = {
        "method": method,
        "data_free": data_free,
        "images": images,
        "steps": steps,
        "rounding": rounding,
    }
    return facts | ({"early_stopping": dict(early_stopping)} if early_stopping else {})


def model_card(
    facts: Mapping[str, Any],
    measured: Mapping[str, Any] | None = None,
    programs: str = FOR_PROGRAMS,
    weights: str | None = "model.safetensors",
) -> str:
    """Return a page of Markdown.

    Args:
        facts: content of ``student.json``.
        measured: metrics of stage ``evaluate``, or of them ``data`` and ``student``, where there
            are any.
        programs: a sentence on the file beside the card that programs read.
        weights: the file of the student's weights; None where there is none.
    """
    widths = facts["scheme"]["activation_bits"]
    kind = "A quantized image classifier, activation widths the same for all images"
    if len(widths) > 1:
        kind = "A quantized image classifier, activation widths chosen for each image"
    elif not facts["sites"]:
        kind = "An image classifier with quantized weights; activations are float32"
    return PAGE.format(
        name=facts["teacher"].get("architecture") or "A classifier",
        weight_bits="-".join(map(str, dict.fromkeys(_narrowest_and_widest(facts)))),
        candidates=",".join(map(str, widths)),
        kind=kind,
        programs=programs,
        source=_list(_source(facts["teacher"])),
        training=_list(_training(facts["provenance"])),
        widths=_list(_widths(facts, weights)),
        accuracy=NOT_MEASURED if measured is None else _accuracy(measured, facts),
    )


def _list(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _source(teacher: Mapping[str, Any]) -> dict[str, str]:
    names = list(teacher.get("class_names", ()))
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    top1 = teacher.get("float_top1")
    shape = " × ".join(map(str, teacher["input_shape"]))
    mean, std = (", ".join(f"{value:.4g}" for value in teacher[key]) for key in ("mean", "std"))
    resize = teacher.get("resize")
    size = (
        "to just cover the input" if resize is None else f"to {resize} pixels on the shorter side"
    )
    architecture = teacher.get("architecture") or "no architecture of a zoo"
    facts = {
        "Float network": f"{architecture}, {teacher.get('source')}",
        "Its top-1": "unknown" if top1 is None else f"{top1:.2f} %, as stated by its source",
        "sha256 of its weights": str(teacher.get("sha256")),
        "Input": f"{shape}, (pixel - mean) / std of pixels in 0 … 1; mean {mean}; std {std}",
        "Images of other sizes": f"scaled ({teacher.get('interpolation', 'bilinear')}) {size}, "
        "then center-cropped",
        f"{len(names)} classes": ", ".join(names[:MOST_NAMES]) + more,
    }
    origins = [f"{name}: {origin}" for name, origin in sorted(teacher.get("origins", {}).items())]
    return facts | ({"Origin of these facts": "; ".join(origins)} if origins else {})


def _training(provenance: Mapping[str, Any]) -> dict[str, str]:
    if not provenance:
        return {"Fine-tuning": "none, or not recorded"}
    steps = provenance["steps"]
    stopping = provenance.get("early_stopping")
    kept = stopping and {
        "Early stopping": f"epoch {stopping['kept_epoch']} of {stopping['epochs']} is kept; it "
        f"agrees with the float network on {stopping['agreement']:.2f} % of "
        f"{stopping['held_back_images']:,} synthetic images held back from training, by which it "
        "was chosen (optimistic)"
    }
    return {
        "Data-free": DATA_FREE[provenance["data_free"]],
        "Method": provenance["method"],
        "Images": f"{provenance['images']:,}" if provenance["images"] else "none",
        "Fine-tuning": f"{steps:,} steps" if steps else "none",
        **(kept or {}),
        "Weight rounding before it": provenance["rounding"],
    }


def _kept(facts: Mapping[str, Any]) -> str:
    """Return which state of the student is measured."""
    provenance = facts["provenance"]
    if "early_stopping" in provenance:
        return "after the epoch that early stopping kept"
    return "after the last step of fine-tuning" if provenance.get("steps") else "not fine-tuned"


def _widths(facts: Mapping[str, Any], file: str | None) -> dict[str, str]:
    scheme = facts["scheme"]
    cost = facts["cost"]
    granularity = "output channel" if scheme["weight_granularity"] == "channel" else "tensor"
    widths = ", ".join(map(str, scheme["activation_bits"]))
    narrowest, widest = _narrowest_and_widest(facts)
    weights = f"{widest} bits"
    if narrowest < widest:
        weights = f"{narrowest} … {widest} bits by sensitivity, {_mean_width(facts):.2f} on average"
    placement = scheme["placement"]
    if scheme.get("scheme") == "integer":
        placement = "scheme integer: 8 bits at the input and where not only layers read"
    sites = f"{len(facts['sites'])} sites ({placement})"
    shared = {
        "Weights": f"{weights}, one scale per {granularity}",
        "MACs that read float32 inputs": f"{cost['float_input_macs']:.2f} %",
    }
    if file is not None:
        shared[f"Size of `{file}`"] = f"{facts['bytes']:,} bytes"
    if not facts["sites"]:
        return shared | {
            "Activations": "float32",
            "bit-FLOPs": f"{cost['target']:.3f} % of the float network's",
        }
    if not cost["dynamic_sites"]:
        return shared | {
            "Activations": f"{_activations(scheme, widths)} at {sites}",
            "bit-FLOPs": f"{cost['target']:.3f} % of the float network's",
        }
    multiplier = facts["multiplier"]
    return shared | {
        "Activations": f"{widths} bits, chosen at {cost['dynamic_sites']} of {sites}",
        "bit-FLOPs": f"{cost['lowest']:.3f} … {cost['highest']:.3f} % of the float network's; "
        f"the target was {cost['target']:.3f} %; the selector's own {cost['selector']:.3f} % are "
        "not included",
        "Lagrange multiplier": f"{multiplier:.6g} nats per percentage point of bit-FLOPs"
        + ("" if multiplier else " (as trained)"),
    }


def _narrowest_and_widest(facts: Mapping[str, Any]) -> tuple[int, int]:
    """Return the smallest and the largest width of a layer's weights."""
    widths = [layer["bits"] for layer in _layers(facts)]
    return min(widths), max(widths)


def _layers(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the network's layers; those of the selector always have 4 bits."""
    named = facts["layers"].items()
    return [layer for name, layer in named if not name.startswith(f"{SELECTOR_PART}.")]


def _mean_width(facts: Mapping[str, Any]) -> float:
    """Return the mean width of all weights, in bits."""
    layers = _layers(facts)
    counts = [prod(layer["shape"]) for layer in layers]
    bits = sum(prod(layer["shape"]) * layer["bits"] for layer in layers)
    return float(bits / sum(counts))


def _activations(scheme: Mapping[str, Any], bits: str) -> str:
    """Return the width of activations, or the range of those of single sites."""
    chosen = (scheme.get("mixed") or {}).get("activations", {}).values()
    if not chosen:
        return f"{bits} bits"
    return f"{min(chosen)} … {max(chosen)} bits by sensitivity"


def _accuracy(measured: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    data = measured["data"]
    if data["name"] is None:
        images = (
            f"{measured['synthetic']['num_images']:,} synthetic images, on which it was trained: "
            "agreement is optimistic, and without labelled images no accuracy is known"
        )
    else:
        images = f"{data['test_images']:,} test images of {data['name']}"
    student = measured["student"]
    rows = {"this student": student}
    if "fixed" in measured:  # a whole experiment, not a student alone
        rows = {"float": measured["teacher"], **rows}
        if facts["sites"]:  # others have no widths to compare
            per_layer = (facts["scheme"].get("mixed") or {}).get("activations")
            bits = measured["fixed"]["bits"]
            name = "widths per layer" if per_layer else f"fixed width, {bits} bits"
            fixed = {name: measured["fixed"]}
            control = {"control: its bits given to other images": measured["control"]}
            rows = {"float": measured["teacher"], **fixed, "this student": student, **control}
        if "static" in measured:
            rows["control: one allocation for all images"] = measured["static"]
        if "ceiling" in measured:
            rows["bound: bits by its own margin at the lowest width"] = measured["ceiling"]
    lines = [
        f"- Measured on {images}, {_kept(facts)}",
        "",
        "| network | top-1, % | bit-FLOPs, % of float | agrees with float, % |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        top1 = _percent(row.get("top1"))
        agreement = _percent(row.get("agreement"))
        lines.append(f"| {name} | {top1} | {row['bit_flops_percent']:.3f} | {agreement} |")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
