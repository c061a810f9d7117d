"""A small, consistent set of artifacts as a pipeline leaves them: random, but plausible and always
the same."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BITS = [3, 4, 5]
MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def similar_classes(n: int, rng: np.random.Generator) -> np.ndarray:
    """Symmetric similarity with groups of related classes, like inner products of weight rows."""
    groups = np.array([0, 0, 1, 2, 1, 2, 1, 1, 0, 0]) if n == 10 else np.arange(n) % max(2, n // 8)
    centres = rng.normal(size=(groups.max() + 1, 24))
    rows = centres[groups] + 0.8 * rng.normal(size=(n, 24))
    return (rows @ rows.T / 24).astype(np.float32)


def predictions(
    similarity: np.ndarray, labels: np.ndarray, ease: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Softmax outputs whose doubts go to similar classes."""
    n = len(similarity)
    logits = 1.6 * similarity[labels] + rng.normal(0, 0.9, (len(labels), n))
    logits[np.arange(len(labels)), labels] += ease + math.log(n / 10)
    return softmax(logits)


def entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(p + 1e-12)).sum(axis=1)


def disturbed(p: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    return np.argmax(np.log(p + 1e-12) + rng.normal(0, noise, p.shape), axis=1)


def costs(h: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    bits = np.clip(3.75 + 0.5 * np.sqrt(h) + rng.normal(0, 0.12, len(h)), 3, 5)
    return {"bit_flops_percent": 0.3 + 0.57 * bits, "mean_bits": bits}


def lowest_bits(h: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    bits = np.clip(np.round(2.2 + 2.6 * np.sqrt(h) + rng.normal(0, 0.8, len(h))), 2, 9).astype(int)
    return np.where(bits == 9, 0, bits)


def site_table(n: int, rng: np.random.Generator) -> pd.DataFrame:
    share = rng.dirichlet([1.5, 3, 1.5], n) * 100
    share[0] = [0, 0, 100]
    names = [
        f"features.stage{1 + i // 6}.unit{1 + i // 2 % 3}.{'activ' if i % 2 else 'body.conv1.activ'}"
        for i in range(n)
    ]
    macs = [[2359296, 2359296, 1179648][i % 3] if i < n - 1 else 0 for i in range(n)]
    ranges = {"fixed_low": 0.0, "fixed_high": 4.0, "low": 0.0, "high": 4.1}
    return pd.DataFrame({"site": range(n), "name": names, "macs": macs, **ranges}).assign(
        **{f"bits_{b}": share[:, i] for i, b in enumerate(BITS)}
    )


def budget_table(budgets: int, top1: float) -> pd.DataFrame:
    """A curve that rises with the budget; at its ends all images have the same bits."""
    share = np.linspace(0, 1, budgets)
    ends = (share == 0) | (share == 1)
    cost, right = 2.0 + 1.2 * share, top1 - 2 * (1 - share) ** 2
    columns = {
        "budget": cost, "multiplier": 300 - 600 * share, "synthetic_bit_flops_percent": cost,
        "bit_flops_percent": cost + 0.02, "mean_bits": 3 + 2 * share, "top1": right,
        "control_top1": right - np.where(ends, 0, 0.4), "gained": np.where(ends, 0, 9), "lost": np.where(ends, 0, 3),
        "allocations": np.where(ends, 1, 80),
    }  # fmt: skip
    return pd.DataFrame(columns)


def history(dynamic: bool, epochs: int, rng: np.random.Generator) -> pd.DataFrame:
    t = np.arange(1, epochs + 1)
    terms = {"label": 0.1 + 0.5 * np.exp(-t / 8), "distillation": 0.9 + 1.4 * np.exp(-t / 6)}
    if dynamic:
        terms["budget"] = 1 + 0.12 * np.exp(-t / 10)
    terms = {name: curve * rng.normal(1, 0.012, epochs) for name, curve in terms.items()}
    table = pd.DataFrame(
        {"epoch": t, "step": t * 200, "learning_rate": 0.001, "loss": sum(terms.values()), **terms}
    )
    for name, curve in terms.items():
        table[f"{name}_unmixed"] = np.where(
            t > epochs // 2, curve * (0.99 if name == "budget" else 1.15), np.nan
        )
    table["bit_flops_percent"] = 2.62 + (0.3 * np.exp(-t / 5) - 0.06) * dynamic
    table["bit_flops_percent_std"] = 0.12 * dynamic
    table["mean_bits"], table["multiplier"] = 4.0, np.nan
    return table


def write_synthetic(
    folder: Path, labels: np.ndarray, soft: np.ndarray, shards: int, size: int
) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    entries = []
    for i, part in enumerate(np.array_split(np.arange(len(labels)), shards)):
        y, x = np.mgrid[0:size, 0:size] / size
        phase = labels[part][:, None, None, None] + np.arange(3)[None, :, None, None]
        images = (
            np.sin(4 * x + phase)
            + np.cos(5 * y * (1 + phase % 3))
            + rng.normal(0, 0.25, (len(part), 3, size, size))
        )
        name = f"shard-{i:05d}.safetensors"
        save_file(
            {"images": images.astype(np.float32), "soft_labels": soft[part].astype(np.float32)},
            folder / name,
        )
        entries.append(
            {
                "file": name,
                "seed": i,
                "sha256": "",
                "num_images": len(part),
                "losses": {},
                "one_hot_recognized": 98.0,
            }
        )
    return {"shards": entries, "num_images": len(labels)}


def build(
    root: Path, names: list[str] | None = None, tests: int = 1500, synthetic: int = 240, noise: float = 1.2,
    sites: int = 19, budget: int = 9, changes: dict[str, dict[str, Any]] | None = None,
    exports: list[dict[str, Any]] | None = None,
) -> Path:  # fmt: skip
    """Write the artifacts; `noise` disturbs the fixed student, `changes` overrides sections of
    metrics.json."""
    rng = np.random.default_rng(0)
    names = names or CIFAR
    n = len(names)
    for folder in (
        "teacher",
        "similarity",
        "synthetic",
        "student",
        "fixed",
        "evaluation",
        "export",
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
    similarity = similar_classes(n, rng)
    save_file({"similarity": similarity}, root / "similarity/similarity.safetensors")
    teacher = {
        "architecture": "pytorchcv/resnet20_cifar10", "class_names": names, "num_classes": n,
        "input_shape": [3, 32, 32], "mean": MEAN, "std": STD, "source": "pytorchcv", "float_top1": None, "sha256": "",
    }  # fmt: skip
    (root / "teacher/teacher.json").write_text(json.dumps(teacher))

    labels = rng.integers(0, n, tests)
    p = predictions(similarity, labels, rng.gamma(4, 1.5, tests), rng)
    h = entropy(p)
    answers, student, fixed = p.argmax(axis=1), disturbed(p, 0.9, rng), disturbed(p, noise, rng)

    def top1(guess: np.ndarray) -> float:
        return 100 * float((guess == labels).mean())

    per_image = pd.DataFrame(
        {
            "index": range(tests), "label": labels, "prediction": student, "teacher_prediction": answers,
            "fixed_prediction": fixed, "entropy_nats": h, **costs(h, rng), "lowest_bits": lowest_bits(h, rng),
        }
    )  # fmt: skip
    per_image.to_csv(root / "evaluation/per_image.csv", index=False)

    made_for, is_soft = rng.integers(0, n, synthetic), np.arange(synthetic) % 2
    second = np.argsort(-(similarity - 1e3 * np.eye(n)), axis=1)[made_for, 0]
    share = np.where(is_soft, rng.uniform(0, 1, synthetic), 1.0)
    soft = np.zeros((synthetic, n))
    soft[np.arange(synthetic), made_for] = share
    soft[np.arange(synthetic), second] += 1 - share
    q = 0.97 * soft + 0.03 * predictions(similarity, made_for, rng.gamma(4, 1.5, synthetic), rng)
    hs = entropy(q)
    pd.DataFrame(
        {
            "index": range(synthetic), "label": soft.argmax(axis=1), "soft": is_soft,
            "label_entropy_nats": entropy(soft), "teacher_prediction": disturbed(q, 0.3, rng),
            "entropy_nats": hs, **costs(hs, rng),
        }
    ).to_csv(root / "evaluation/synthetic_per_image.csv", index=False)  # fmt: skip
    manifest = write_synthetic(root / "synthetic", made_for, soft, shards=3, size=32)
    (root / "synthetic/manifest.json").write_text(json.dumps(manifest))

    site_table(sites, rng).to_csv(root / "evaluation/sites.csv", index=False)
    budget_table(budget, top1(student)).to_csv(root / "evaluation/budget_curve.csv", index=False)
    a, b = np.meshgrid(range(n), range(n), indexing="ij")
    counts = {
        who: np.histogram2d(labels, guess, bins=(range(n + 1), range(n + 1)))[0].astype(int).ravel()
        for who, guess in (("teacher", answers), ("fixed", fixed), ("student", student))
    }
    confusion = pd.DataFrame({"label": a.ravel(), "prediction": b.ravel(), **counts})
    confusion[confusion[list(counts)].any(axis=1)].to_csv(
        root / "evaluation/confusion.csv", index=False
    )
    together = pd.DataFrame(
        {"class_a": a.ravel(), "class_b": b.ravel(), "value": (p.T @ p / tests).ravel()}
    )
    together[together["class_a"] < together["class_b"]].to_csv(
        root / "evaluation/co_occurrence.csv", index=False
    )
    for folder, dynamic in (("student", True), ("fixed", False)):
        history(dynamic, 40, rng).to_csv(root / folder / "history.csv", index=False)

    metrics: dict[str, dict[str, Any]] = {
        "teacher": {"top1": top1(answers), "bit_flops_percent": 100.0},
        "fixed": {
            "top1": top1(fixed), "bit_flops_percent": 2.62, "agreement": 100 * (fixed == answers).mean(), "bits": 4,
        },
        "student": {
            "top1": top1(student), "bit_flops_percent": per_image["bit_flops_percent"].mean(),
            "bit_flops_percent_std": per_image["bit_flops_percent"].std(),
            "mean_activation_bits": per_image["mean_bits"].mean(), "agreement": 100 * (student == answers).mean(),
            "selector_overhead_percent": 0.17,
        },
        "control": {"top1": top1(student) - 0.9, "top1_std": 0.12, "repeats": 5},
        "synthetic": {
            "num_images": synthetic, "one_hot_recognized": 98.3, "gate": 90.0, "one_hot_images": synthetic // 2,
            "entropy_bits_spearman": 0.71,
        },
        "quantization": {"weight_bits": 4, "target_bits": 4, "activation_bits": BITS, "float_input_macs_percent": 1.1},
        "data": {"name": "cifar10", "test_images": tests},
    }  # fmt: skip
    for section, values in (changes or {}).items():
        metrics[section] |= values
    sizes = {"float_bytes": 1_000_000, "packed_bytes": 180_000}
    (root / "export/export.json").write_text(json.dumps(sizes | {"files": exports or []}))
    everything = metrics | {"entropy_bits_spearman": 0.62, "method": "dynadfq"}
    (root / "evaluation/metrics.json").write_text(json.dumps(everything))
    return root


def without_labels(root: Path) -> Path:
    """Turn artifacts into those of a run that had no labelled data: the synthetic images are what
    is measured."""
    folder = root / "evaluation"
    for name in ("confusion.csv", "co_occurrence.csv"):
        (folder / name).unlink()
    rng = np.random.default_rng(1)
    made = pd.read_csv(folder / "synthetic_per_image.csv")
    answers = made["teacher_prediction"].to_numpy()
    classes = len(json.loads((root / "teacher/teacher.json").read_text())["class_names"])
    per_image = made.assign(
        label=None, lowest_bits=lowest_bits(made["entropy_nats"].to_numpy(), rng),
        **{
            column: np.where(rng.random(len(made)) < share, (answers + 1) % classes, answers)
            for column, share in (("prediction", 0.02), ("fixed_prediction", 0.05))
        },
    ).drop(columns=["soft", "label_entropy_nats"])  # fmt: skip
    per_image.to_csv(folder / "per_image.csv", index=False)
    budget = pd.read_csv(folder / "budget_curve.csv")
    budget.rename(columns={"top1": "agreement", "control_top1": "control_agreement"}).to_csv(
        folder / "budget_curve.csv", index=False
    )
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("teacher", "fixed", "student", "control"):
        metrics[name].pop("top1")
    metrics["control"] = {
        "agreement": metrics["student"]["agreement"] - 1,
        "agreement_std": 0.2,
        "repeats": 5,
    }
    del metrics["entropy_bits_spearman"]
    (folder / "metrics.json").write_text(json.dumps(metrics | {"data": {"name": None}}))
    return root


@pytest.fixture(scope="session")
def make_unlabelled() -> Callable[[Path], Path]:
    """Takes the labels from artifacts."""
    return without_labels


@pytest.fixture(scope="session")
def make_artifacts() -> Callable[..., Path]:
    """Builder of artifacts, for tests that want them different."""
    return build


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts of a ten-class run whose dynamic student wins; not to be changed."""
    return build(tmp_path_factory.mktemp("run") / "artifacts")


@pytest.fixture(scope="session")
def reports(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of those artifacts; not to be changed."""
    from dynadfq.report.render import write_report

    out = tmp_path_factory.mktemp("run") / "reports"
    write_report(artifacts, out, grid_images=16)
    return out
