"""Similarity of classes, read from the classifier's weights (DynaDFQ, eq. (5))."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from torch import Tensor
from torch.nn.functional import normalize

from dynadfq.runtime.errors import require_choice
from dynadfq.teacher.config import Measure
from dynadfq.teacher.teacher import Teacher


def similarity_of_weights(weights: Tensor, measure: Measure = "dot") -> Tensor:
    """Return the similarity of weight rows: (classes, features) to a symmetric (classes, classes).

    Args:
        weights: one row per class.
        measure: "dot" is the paper's inner product, W Wᵀ; "cosine" divides by the rows' lengths;
            "centred" is the cosine of rows minus their mean, which all classes share.

    Raises:
        ValueError: the measure is unknown.

    >>> import torch
    >>> similarity_of_weights(torch.tensor([[2.0, 0.0], [1.0, 1.0]]))
    tensor([[4., 2.],
            [2., 2.]])
    """
    require_choice("measure", measure, get_args(Measure))
    rows = weights.float()
    if measure == "centred":
        rows = rows - rows.mean(dim=0)
    if measure != "dot":
        rows = normalize(rows, dim=1)
    products = rows @ rows.T
    # A kernel may sum (a, b) and (b, a) in different orders.
    return products.triu() + products.triu(1).T


def class_similarity(teacher: Teacher, measure: Measure = "dot") -> Tensor:
    """Return the similarity of the teacher's classes (DynaDFQ, Eq. 5).

    It is that of the classification layer's weight rows (``similarity_of_weights``), (classes,
    classes) float32 on the CPU.
    """
    return similarity_of_weights(teacher.class_weights.cpu(), measure)


def most_similar(similarity: Tensor, count: int) -> Tensor:
    """Return the most similar classes of each: (classes, classes) to (classes, count) indices.

    Each class comes first in its own row, even if its inner product with another is larger.
    """
    ranked = similarity.clone()
    ranked.fill_diagonal_(float("inf"))
    return ranked.argsort(dim=1, descending=True, stable=True)[:, :count]


def top_similar(
    similarity: Tensor, names: Sequence[str], count: int
) -> list[tuple[str, int, str, float]]:
    """Return the other classes most similar to each, as a table.

    Args:
        similarity: (classes, classes).
        names: of the classes.
        count: similar classes per class.

    Returns:
        Rows of (class, rank from 1, similar class, similarity).
    """
    count = min(count, len(names) - 1)
    ranked = most_similar(similarity, count + 1)[:, 1:].tolist()
    return [
        (names[row], rank, names[other], float(similarity[row, other]))
        for row, others in enumerate(ranked)
        for rank, other in enumerate(others, start=1)
    ]
