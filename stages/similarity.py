"""Stage ``similarity``: the similarity of classes, from the teacher's classifier weights."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dynadfq.params import View
from dynadfq.teacher.config import SimilarityConfig
from dynadfq.teacher.loading import load_teacher
from dynadfq.teacher.similarity import class_similarity, top_similar
from dynadfq.teacher.similarity_file import write_similarity
from stages.artifacts import SIMILARITY, TEACHER, write_table
from stages.runtime import TeacherName, main


class SimilarityParams(View):
    """What this stage declares in dvc.yaml."""

    teacher: TeacherName
    similarity: SimilarityConfig


def make(p: SimilarityParams, teacher_folder: Path, folder: Path) -> None:
    """Write the class similarities of a teacher to ``folder``."""
    teacher = load_teacher(teacher_folder, trust=(p.teacher.architecture,))
    similarity = class_similarity(teacher, p.similarity.measure)
    write_similarity(folder, similarity, p.similarity.measure, teacher.describe()["sha256"])
    rows = top_similar(similarity, teacher.class_names, p.similarity.top)
    write_table(
        folder / "top_similar.csv",
        pd.DataFrame(rows, columns=["class", "rank", "similar_class", "similarity"]),
    )


def run(p: SimilarityParams) -> None:
    """Write artifacts/similarity."""
    make(p, TEACHER, SIMILARITY)


if __name__ == "__main__":
    main(run, SimilarityParams)
