"""Everything the report reads, from `artifacts/`, and nothing else: no network is run and no
parameter is looked up.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from dynadfq.report.score import Score, score_of

STAGE_OF_FOLDER = {
    "teacher": "teacher",
    "similarity": "similarity",
    "synthetic": "synthesize",
    "student": "finetune",
    "fixed": "finetune_fixed",
    "evaluation": "evaluate",
    "export": "export",
}


@dataclass(frozen=True)
class Evidence:
    """What the stages before `plot` measured; percent in percent, entropies in nats.

    `per_image` has the measured images: test images, or the synthetic ones where there are no
    labelled images; then `confusion` and `co_occurrence` are None.
    """

    metrics: dict[str, Any]
    teacher: dict[str, Any]
    per_image: pd.DataFrame
    synthetic: pd.DataFrame
    budget: pd.DataFrame
    sites: pd.DataFrame
    confusion: pd.DataFrame | None
    co_occurrence: pd.DataFrame | None
    similarity: NDArray[np.float32]
    histories: dict[str, pd.DataFrame]
    exports: dict[str, Any]

    @property
    def score(self) -> Score:
        """What networks are compared by."""
        return score_of(self.metrics)

    @property
    def test_images(self) -> pd.DataFrame | None:
        """The rows of labelled test images, where there are any."""
        return self.per_image if self.score.labelled else None

    @property
    def class_names(self) -> list[str]:
        """Names of the classes in the order of the teacher's outputs."""
        return [str(name) for name in self.teacher["class_names"]]


def artifact(artifacts: Path, name: str) -> Path:
    """Path of an artifact such as `evaluation/metrics.json`; its absence is an error that names the
    stage to run.
    """
    path = artifacts / name
    if not path.is_file():
        stage = STAGE_OF_FOLDER[name.split("/")[0]]
        raise FileNotFoundError(
            f"{path} is missing. The stage `{stage}` makes it: run `dvc repro {stage}`."
        )
    return path


def load_evidence(artifacts: Path) -> Evidence:
    """Read all tables of a finished pipeline; images stay on disk, see `load_images`."""

    def table(name: str) -> pd.DataFrame:
        return pd.read_csv(artifact(artifacts, name))

    def record(name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(artifact(artifacts, name).read_text(encoding="utf-8"))
        return content

    metrics = record("evaluation/metrics.json")
    labelled = score_of(metrics).labelled
    return Evidence(
        metrics=metrics,
        teacher=record("teacher/teacher.json"),
        per_image=table("evaluation/per_image.csv"),
        synthetic=table("evaluation/synthetic_per_image.csv"),
        budget=table("evaluation/budget_curve.csv"),
        sites=table("evaluation/sites.csv"),
        confusion=table("evaluation/confusion.csv") if labelled else None,
        co_occurrence=table("evaluation/co_occurrence.csv") if labelled else None,
        similarity=load_file(artifact(artifacts, "similarity/similarity.safetensors"))[
            "similarity"
        ],
        histories={"dynamic": table("student/history.csv"), "fixed": table("fixed/history.csv")},
        exports=record("export/export.json"),
    )


def load_images(
    artifacts: Path, indices: list[int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Synthetic images (B, C, H, W), normalized as stored, and soft labels (B, classes), in the
    order asked for.
    """
    manifest = json.loads(
        artifact(artifacts, "synthetic/manifest.json").read_text(encoding="utf-8")
    )
    found: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    first = 0
    for shard in manifest["shards"]:
        wanted = [i for i in indices if first <= i < first + shard["num_images"]]
        if wanted:
            with safe_open(
                artifact(artifacts, f"synthetic/{shard['file']}"), framework="np"
            ) as tensors:
                images, labels = tensors.get_slice("images"), tensors.get_slice("soft_labels")
                for i in wanted:
                    at = i - first
                    found[i] = (images[at : at + 1][0], labels[at : at + 1][0])
        first += shard["num_images"]
    absent = [i for i in indices if i not in found]
    if absent:
        raise ValueError(
            f"synthetic image {absent[0]} is outside the {first} images of artifacts/synthetic/manifest.json: "
            "the evaluation belongs to another set; run `dvc repro evaluate`."
        )
    return np.stack([found[i][0] for i in indices]), np.stack([found[i][1] for i in indices])
