"""The tables of the page, as text."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dynadfq.report.load import Evidence
from dynadfq.report.tables import network_results
from dynadfq.report.text import count, number, p_value
from dynadfq.report.verdict import verdict

LAYER_WIDTHS = {
    "uniform": "equal",
    "mixed": "differ between layers",
}
FORMAT_NAMES = {
    "qdq": "ONNX for integer engines",
    "onnx-codes": "ONNX, products of codes in float32",
    "pt2": "torch.export program",
}


def title(metrics: Mapping[str, Any]) -> str:
    """Return method, data and widths, such as "dynadfq on cifar10: W4, A{3,4,5}"."""
    quantization = metrics["quantization"]
    widths = ",".join(str(bits) for bits in quantization["activation_bits"])
    method = metrics.get("method") or "Data-free quantization"
    data = metrics["data"]["name"]
    where = "without labelled data" if data is None else f"on {data}"
    return f"{method} {where}: W{quantization['weight_bits']}, A{{{widths}}}"


def results(evidence: Evidence) -> pd.DataFrame:
    """Return accuracy and cost of every network and control."""
    labelled = evidence.score.labelled
    networks = network_results(evidence.metrics, evidence.score)
    teacher = networks["teacher"].score
    rows = {}
    for role, network in networks.items():
        cells = {}
        if labelled:
            difference = None if role == "teacher" else network.score - teacher
            cells["top-1, %"] = number(network.score)
            cells["to teacher, points"] = number(difference, sign=True)
        cells["bit-FLOPs, % of float"] = number(network.bit_flops_percent)
        cells["mean activation bits"] = number(network.mean_bits)
        cells["agreement with teacher, %"] = number(network.agreement)
        rows[network.name] = cells
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("Network")


def findings(evidence: Evidence) -> list[str]:
    """Return what the measurements say about the bits per image, a sentence each."""
    score = evidence.score
    return verdict(network_results(evidence.metrics, score), evidence.sites, score)


def comparison(evidence: Evidence) -> pd.DataFrame:
    """Return the dynamic student's difference to the fixed one and to each control."""
    score = evidence.score
    networks = network_results(evidence.metrics, score)
    dynamic = networks.pop("dynamic")
    del networks["teacher"]
    rows = {}
    for other in networks.values():
        cost = 100 * (dynamic.bit_flops_percent / other.bit_flops_percent - 1)
        rows[other.name] = {
            f"{score.name}, points": number(other.difference, sign=True),
            "standard error": number(other.standard_error),
            "bit-FLOPs, %": number(cost, 1, sign=True),
            f"{score.images} right in dynamic only": count(other.gained),
            f"{score.images} right in the other only": count(other.lost),
            "p, exact test": p_value(other.p_value),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("Against")


def setup(evidence: Evidence, origin: Mapping[str, str]) -> dict[str, str]:
    """Return what was measured on, what the bit-FLOPs leave out, and where the page is from."""
    metrics = evidence.metrics
    data = metrics["data"]
    synthetic = metrics["synthetic"]
    quantization = metrics["quantization"]
    facts = {
        "Network": evidence.teacher["architecture"] or "a user's own",
        "Method": metrics.get("method") or number(None),
        "Weight bits": str(quantization["weight_bits"]),
        "Widths of layers": LAYER_WIDTHS[quantization.get("allocation", "uniform")],
        "Activation bits": ", ".join(str(bits) for bits in quantization["activation_bits"]),
        "Test data": data["name"] or "none",
        "Test images": f"{data.get('test_images', 0):,}",
        "Synthetic images": f"{synthetic['num_images']:,}",
    }
    if "fingerprint" in data:
        facts["Fingerprint of the data's files (DVC does not follow them)"] = data["fingerprint"]
    if "class_order" in data:
        facts["Class order"] = data["class_order"]
    overhead = metrics["student"].get("selector_overhead_percent")
    float_inputs = quantization["float_input_macs_percent"]
    facts |= {
        "MACs that read 32-bit inputs, %": number(float_inputs, 1),
        "Bit selector, % of float bit-FLOPs": number(overhead),
        "Synthetic images of one class": f"{synthetic['one_hot_images']:,}",
        "of these recognized by the teacher, %": number(synthetic["one_hot_recognized"], 1),
        "required for the gate, %": number(synthetic["gate"], 0),
    }
    return {**facts, **origin}


def gate(synthetic: Mapping[str, Any]) -> str:
    """Return "passed", "failed" or "open": whether the teacher recognizes one-hot images."""
    if synthetic["one_hot_recognized"] is None or not synthetic["one_hot_images"]:
        return "open"
    return "passed" if synthetic["one_hot_recognized"] >= synthetic["gate"] else "failed"


def files(exports: Mapping[str, Any]) -> pd.DataFrame:
    """Return the sizes of the float network, the packed student, and each exported file."""
    sizes = {
        "Float network": exports["float_bytes"],
        "Dynamic student, packed codes": exports["packed_bytes"],
        **{FORMAT_NAMES[file["format"]]: file["bytes"] for file in exports["files"]},
    }
    size = pd.Series(sizes)
    table = pd.DataFrame(
        {
            "bytes": size.map("{:,}".format),
            "% of float": (100 * size / exports["float_bytes"]).map(lambda value: number(value, 1)),
        }
    )
    checks = {FORMAT_NAMES[file["format"]]: _checks(file) for file in exports["files"]}
    columns = ["images checked", "largest logit difference", "versions", "not in integers"]
    checked = pd.DataFrame.from_dict(checks, orient="index", columns=columns)
    return table.join(checked).fillna(number(None)).rename_axis("File")


def _checks(file: Mapping[str, Any]) -> list[str]:
    """Return how a file was checked, with which versions, and what it computes in floats."""
    versions = [f"{package} {release}" for package, release in sorted(file["versions"].items())]
    if file["opset"]:
        versions.insert(0, f"opset {file['opset']}")
    names = [fact.split(":")[0] for fact in file["not_integer"]]
    return [
        f"{file['images_checked']:,}",
        f"{file['worst_logit_difference']:.1g}",
        ", ".join(versions),
        ", ".join(names) or number(None),
    ]
