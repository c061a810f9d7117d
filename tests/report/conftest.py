"""A small, consistent set of artifacts as a pipeline leaves them: random, plausible, the same."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save
from scipy.special import entr, softmax

from dynadfq.evaluation.record import Metrics
from dynadfq.evaluation.tables import co_occurrence_table, confusion_table
from dynadfq.export.record import ExportRecord
from dynadfq.report.render import write_report
from dynadfq.runtime.artifact import record_bytes
from dynadfq.synthesis.manifest import Manifest
from dynadfq.teacher.facts import TeacherRecord
from dynadfq.teacher.similarity_file import write_similarity

CHECKSUM = "0" * 64
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FOLDERS = ("teacher", "similarity", "synthetic", "student", "fixed", "evaluation", "export")
BITS = [3, 4, 5]
EPOCHS = 40
COMPARED = {"difference": 0.9, "standard_error": 0.4, "gained": 40, "lost": 29, "p_value": 0.23}
COMPARED |= {"bit_flops_percent": 2.6}


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def write_csv(path: Path, **columns: Any) -> None:
    pd.DataFrame(columns).to_csv(path, index=False)


def predictions(similarity: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Softmax outputs whose doubts go to similar classes."""
    logits = 1.6 * similarity[labels] + rng.normal(0, 0.9, (len(labels), len(similarity)))
    ease = rng.gamma(4, 1.5, len(labels)) + np.log(len(similarity) / 10)
    logits[np.arange(len(labels)), labels] += ease
    return softmax(logits, axis=1)


def disturbed(p: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Classes predicted by a network that differs from the teacher by noise."""
    return np.argmax(np.log(p + 1e-12) + rng.normal(0, noise, p.shape), axis=1)


def costs(entropy: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    bits = np.clip(3.75 + 0.5 * np.sqrt(entropy) + rng.normal(0, 0.12, len(entropy)), 3, 5)
    return {"bit_flops_percent": 0.3 + 0.57 * bits, "mean_bits": bits}


def lowest_bits(entropy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    bits = 2.2 + 2.6 * np.sqrt(entropy) + rng.normal(0, 0.8, len(entropy))
    bits = np.clip(np.round(bits), 2, 9).astype(int)
    return np.where(bits == 9, 0, bits)


def write_sites(path: Path, sites: int, rng: np.random.Generator) -> None:
    shares = rng.dirichlet([1.5, 3, 1.5], sites) * 100
    shares[0] = [0, 0, 100]
    ends = ["body.conv1.activ", "activ"]
    units = [f"features.stage{1 + i // 6}.unit{1 + i // 2 % 3}" for i in range(sites)]
    write_csv(
        path,
        site=range(sites),
        name=[f"{unit}.{ends[i % 2]}" for i, unit in enumerate(units)],
        macs=[2359296] * (sites - 1) + [0],
        **{f"bits_{bits}": shares[:, i] for i, bits in enumerate(BITS)},
    )


def write_budgets(path: Path, budgets: int, top1: float) -> None:
    """A curve that rises with the budget; at its ends all images have the same bits."""
    share = np.linspace(0, 1, budgets)
    ends = (share == 0) | (share == 1)
    score = top1 - 2 * (1 - share) ** 2
    write_csv(
        path,
        budget=2.0 + 1.2 * share,
        bit_flops_percent=2.02 + 1.2 * share,
        top1=score,
        control_top1=score - np.where(ends, 0, 0.4),
        allocations=np.where(ends, 1, 80),
    )


def write_history(path: Path, dynamic: bool, rng: np.random.Generator) -> None:
    """Decaying terms of which the second half of the epochs is mixed."""
    epochs = np.arange(1, EPOCHS + 1)
    noise = rng.normal(1, 0.012, EPOCHS)
    terms = {
        "label": noise * (0.1 + 0.5 * np.exp(-epochs / 8)),
        "distillation": noise * (0.9 + 1.4 * np.exp(-epochs / 6)),
    }
    if dynamic:
        terms["budget"] = noise * (1 + 0.12 * np.exp(-epochs / 10))
    mixed = epochs > EPOCHS // 2
    write_csv(
        path,
        epoch=epochs,
        loss=sum(terms.values()),
        gradient_norm=200.0,
        **terms,
        **{f"{name}_unmixed": np.where(mixed, curve, np.nan) for name, curve in terms.items()},
        bit_flops_percent=2.62 + (0.3 * np.exp(-epochs / 5) - 0.06) * dynamic,
        bit_flops_percent_std=0.12 * dynamic,
        multiplier=np.nan,
    )


def write_synthetic(folder: Path, soft: np.ndarray, rng: np.random.Generator) -> None:
    """Three shards of noise with these labels."""
    shards = []
    size = -(-len(soft) // 3)
    for i in range(3):
        labels = soft[i * size : (i + 1) * size].astype(np.float32)
        name = f"shard-{i:05d}.safetensors"
        images = rng.normal(size=(len(labels), 3, 32, 32)).astype(np.float32)
        data = save({"images": images, "soft_labels": labels})
        (folder / name).write_bytes(data)
        shards.append(
            {
                "bytes": len(data),
                "file": name,
                "losses": {},
                "num_images": len(labels),
                "one_hot_images": 0,
                "one_hot_recognized": 0,
                "seed": i,
                "sha256": sha256(data).hexdigest(),
            }
        )
    content = {"batch_size": size, "num_images": len(soft), "seed": 0}
    content |= {"files": {}, "shards": shards, "storage": "float32"}
    (folder / "manifest.json").write_bytes(record_bytes(content, Manifest))


def build(
    root: Path,
    names: list[str] | None = None,
    tests: int = 300,
    synthetic: int = 40,
    noise: float = 1.2,
    budget: int = 9,
    changes: dict[str, dict[str, Any]] | None = None,
    exports: list[dict[str, Any]] | None = None,
) -> Path:
    """Write the artifacts; `noise` disturbs the fixed student, `changes` override metrics.json."""
    rng = np.random.default_rng(0)
    names = names or CIFAR
    n = len(names)
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    rows = rng.normal(size=(n // 3 + 1, 24))[np.arange(n) // 3] + 0.8 * rng.normal(size=(n, 24))
    similarity = (rows @ rows.T / 24).astype(np.float32)
    write_similarity(root / "similarity", torch.from_numpy(similarity), "dot", CHECKSUM)
    teacher = {"architecture": "pytorchcv/resnet20_cifar10", "class_names": names}
    teacher |= {"mean": [0.49, 0.48, 0.45], "std": [0.25, 0.24, 0.26], "input_shape": [3, 32, 32]}
    teacher |= {"num_classes": n, "resize": None, "interpolation": "bilinear", "origins": {}}
    teacher |= {"source": "made up", "float_top1": None, "sha256": CHECKSUM, "bytes": 1}
    (root / "teacher/teacher.json").write_bytes(record_bytes(teacher, TeacherRecord))

    evaluation = root / "evaluation"
    labels = rng.integers(0, n, tests)
    p = predictions(similarity, labels, rng)
    entropy = entr(p).sum(axis=1)
    networks = {
        "teacher": p.argmax(axis=1),
        "student": disturbed(p, 0.9, rng),
        "fixed": disturbed(p, noise, rng),
    }
    top1 = {name: 100 * float((found == labels).mean()) for name, found in networks.items()}
    write_csv(
        evaluation / "per_image.csv",
        index=range(tests),
        label=labels,
        prediction=networks["student"],
        teacher_prediction=networks["teacher"],
        fixed_prediction=networks["fixed"],
        entropy_nats=entropy,
        **costs(entropy, rng),
        lowest_bits=lowest_bits(entropy, rng),
    )
    classes = {name: torch.from_numpy(found) for name, found in networks.items()}
    confusion = confusion_table(torch.from_numpy(labels), classes, n)
    confusion.to_csv(evaluation / "confusion.csv", index=False)
    together = co_occurrence_table(torch.from_numpy(p.T @ p / tests))
    together.to_csv(evaluation / "co_occurrence.csv", index=False)

    made_for = rng.integers(0, n, synthetic)
    is_soft = np.arange(synthetic) % 2
    share = np.where(is_soft, rng.uniform(0, 1, synthetic), 1.0)[:, None]
    soft = share * np.eye(n)[made_for] + (1 - share) * np.eye(n)[(made_for + 1) % n]
    q = 0.97 * soft + 0.03 * predictions(similarity, made_for, rng)
    synthetic_entropy = entr(q).sum(axis=1)
    write_csv(
        evaluation / "synthetic_per_image.csv",
        index=range(synthetic),
        label=soft.argmax(axis=1),
        soft=is_soft,
        teacher_prediction=disturbed(q, 0.3, rng),
        entropy_nats=synthetic_entropy,
        **costs(synthetic_entropy, rng),
    )
    write_synthetic(root / "synthetic", soft, rng)
    write_sites(evaluation / "sites.csv", 19, rng)
    write_budgets(evaluation / "budget_curve.csv", budget, top1["student"])
    write_history(root / "student/history.csv", True, rng)
    write_history(root / "fixed/history.csv", False, rng)

    metrics: dict[str, Any] = {
        "teacher": {"bit_flops_percent": 100.0},
        "fixed": {**COMPARED, "bit_flops_percent": 2.62, "agreement": 90.0, "bits": 4},
        "student": {
            "bit_flops_percent": 2.6,
            "mean_activation_bits": 4.0,
            "agreement": 92.0,
            "selector_overhead_percent": 0.17,
        },
        "control": {"top1": top1["student"] - 0.9, "top1_std": 0.12, "repeats": 5, **COMPARED},
        "static": {"top1": top1["student"] - 0.3, **COMPARED, "mean_activation_bits": 4.0},
        "ceiling": {"top1": (top1["student"] + 100) / 2, **COMPARED, "mean_activation_bits": 4.1},
        "synthetic": {
            "num_images": synthetic,
            "one_hot_images": synthetic // 2,
            "one_hot_recognized": 98.3,
            "gate": 90.0,
        },
        "quantization": {
            "weight_bits": 4,
            "activation_bits": BITS,
            "float_input_macs_percent": 1.1,
        },
        "data": {"name": "cifar10", "test_images": tests},
    }
    for name, score in top1.items():
        metrics[name]["top1"] = score
    for section, values in (changes or {}).items():
        metrics[section] |= values
    metrics["method"] = "dynadfq"
    (evaluation / "metrics.json").write_bytes(record_bytes(metrics, Metrics))
    sizes = {"float_bytes": 1_000_000, "packed_bytes": 180_000}
    content = sizes | {"files": exports or []}
    (root / "export/export.json").write_bytes(record_bytes(content, ExportRecord))
    return root


def without_labels(root: Path) -> Path:
    """Turn artifacts into those of a run without labelled data: synthetic images are measured."""
    folder = root / "evaluation"
    (folder / "confusion.csv").unlink()
    (folder / "co_occurrence.csv").unlink()
    made = pd.read_csv(folder / "synthetic_per_image.csv").drop(columns="soft")
    answers = made["teacher_prediction"]
    made = made.assign(label=None, lowest_bits=4, prediction=answers, fixed_prediction=0)
    made.to_csv(folder / "per_image.csv", index=False)
    budget = pd.read_csv(folder / "budget_curve.csv")
    budget.columns = budget.columns.str.replace("top1", "agreement")
    budget.to_csv(folder / "budget_curve.csv", index=False)
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("teacher", "fixed", "student"):
        del metrics[name]["top1"]
    for name in ("control", "static", "ceiling"):
        metrics[name]["agreement"] = 91.0
        del metrics[name]["top1"]
    metrics["control"]["agreement_std"] = metrics["control"].pop("top1_std")
    write_json(folder / "metrics.json", metrics | {"data": {"name": None}})
    return root


@pytest.fixture(scope="session")
def make_artifacts() -> Callable[..., Path]:
    """Builder of artifacts, for tests that want them different."""
    return build


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts of a ten-class run whose dynamic student wins; not to be changed."""
    return build(tmp_path_factory.mktemp("run") / "artifacts", tests=1500, synthetic=240)


@pytest.fixture(scope="session")
def reports(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of those artifacts; not to be changed."""
    out = tmp_path_factory.mktemp("run") / "reports"
    write_report(artifacts, out, grid_images=16)
    return out


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of artifacts without labels; not to be changed."""
    folder = tmp_path_factory.mktemp("unlabelled")
    write_report(without_labels(build(folder / "artifacts")), folder / "reports", grid_images=4)
    return folder / "reports"
