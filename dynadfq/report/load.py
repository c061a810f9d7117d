"""Input of the report: the artifacts of the other stages, and nothing else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dynadfq.evaluation.record import Metrics
from dynadfq.export.record import ExportRecord
from dynadfq.runtime.artifact import Record, read_record
from dynadfq.synthesis.dataset import Batch, SyntheticSet
from dynadfq.teacher.facts import TeacherRecord
from dynadfq.teacher.similarity_file import read_similarity

STAGE_OF_FOLDER = {
    "teacher": "teacher",
    "similarity": "similarity",
    "synthetic": "synthesize",
    "student": "finetune",
    "fixed": "finetune_fixed",
    "evaluation": "evaluate",
    "export": "export",
}


class Score(NamedTuple):
    """The measurements that networks are compared by."""

    key: str  # in metrics.json
    name: str
    images: str  # the kind of images that are measured
    total: int  # their number
    against: str  # column of per_image.csv with the expected classes

    @property
    def labelled(self) -> bool:
        """Whether there are labelled test images."""
        return self.key == "top1"


@dataclass(frozen=True)
class Evidence:
    """The measurements of the stages before `plot`; percent in percent, entropies in nats.

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
        """Top-1 on labelled test images, or agreement with the teacher on synthetic ones."""
        data = self.metrics["data"]
        if data["name"] is None:
            total = self.metrics["synthetic"]["num_images"]
            return Score("agreement", "agreement", "synthetic images", total, "teacher_prediction")
        return Score("top1", "top-1", "test images", data["test_images"], "label")

    @property
    def test_images(self) -> pd.DataFrame | None:
        """The rows of labelled test images, where there are any."""
        return self.per_image if self.score.labelled else None

    @property
    def class_names(self) -> list[str]:
        """Names of the classes in the order of the teacher's outputs; else the test set's."""
        names = self.metrics["data"].get("class_names") or self.teacher["class_names"]
        return [str(name) for name in names]


def artifact(artifacts: Path, name: str) -> Path:
    """Return the path of an artifact such as `evaluation/metrics.json`.

    Raises:
        FileNotFoundError: it is missing; the message names the stage to run.
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

    def record(name: str, schema: type[Record]) -> dict[str, Any]:
        found = read_record(artifact(artifacts, name), schema)
        return found.model_dump(mode="json", exclude_unset=True)

    metrics = record("evaluation/metrics.json", Metrics)
    labelled = metrics["data"]["name"] is not None
    teacher = record("teacher/teacher.json", TeacherRecord)
    similarity = artifact(artifacts, "similarity/similarity.safetensors").parent
    return Evidence(
        metrics=metrics,
        teacher=teacher,
        per_image=table("evaluation/per_image.csv"),
        synthetic=table("evaluation/synthetic_per_image.csv"),
        budget=table("evaluation/budget_curve.csv"),
        sites=table("evaluation/sites.csv"),
        confusion=table("evaluation/confusion.csv") if labelled else None,
        co_occurrence=table("evaluation/co_occurrence.csv") if labelled else None,
        similarity=read_similarity(similarity, teacher["sha256"], teacher["num_classes"]).numpy(),
        histories={"dynamic": table("student/history.csv"), "fixed": table("fixed/history.csv")},
        exports=record("export/export.json", ExportRecord),
    )


def load_images(artifacts: Path, indices: list[int]) -> Batch:
    """Read synthetic images by index, in the order asked for.

    Raises:
        ValueError: an index is outside the set, so that the evaluation belongs to another one.
    """
    images = SyntheticSet(artifact(artifacts, "synthetic/manifest.json").parent)
    absent = [index for index in indices if index >= len(images)]
    if absent:
        raise ValueError(
            f"synthetic image {absent[0]} is outside the {len(images)} images of "
            f"{images.folder}: the evaluation belongs to another set; run `dvc repro evaluate`."
        )
    return images.take(torch.tensor(indices))
