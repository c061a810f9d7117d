"""Stage ``similarity``: which classes resemble each other, read from the teacher's classifier weights."""

from __future__ import annotations

import pandas as pd
import safetensors.torch

from dynadfq.artifacts import SIMILARITY, TEACHER, write_table
from dynadfq.checkpoint import atomic_write
from dynadfq.similarity import class_similarity, top_similar
from dynadfq.teacher import load_teacher
from stages.runtime import begin, main


def run() -> None:
    """Write artifacts/similarity."""
    p = begin("similarity")
    teacher = load_teacher(TEACHER)
    similarity = class_similarity(teacher, p.similarity.measure)
    atomic_write(SIMILARITY / "similarity.safetensors", safetensors.torch.save({"similarity": similarity}))
    rows = top_similar(similarity, teacher.class_names, p.similarity.top)
    write_table(
        SIMILARITY / "top_similar.csv", pd.DataFrame(rows, columns=["class", "rank", "similar_class", "similarity"])
    )


if __name__ == "__main__":
    main(run)
