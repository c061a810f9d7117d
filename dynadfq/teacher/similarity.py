"""Class similarity read from the classifier's own weights (DynaDFQ, Eq. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor
from torch.nn.functional import normalize

from dynadfq.teacher.teacher import Teacher

Measure = Literal["dot", "cosine", "centred"]


def similarity_of_weights(weights: Tensor, measure: Measure = "dot") -> Tensor:
    """Similarity of weight rows: (classes, features) to a symmetric (classes, classes).

    ``dot`` is the paper's raw inner product, W Wᵀ; ``cosine`` divides by the rows' lengths;
    ``centred`` is the cosine after the mean row, which all classes share, is taken off.

    >>> import torch
    >>> similarity_of_weights(torch.tensor([[2.0, 0.0], [1.0, 1.0]]))
    tensor([[4., 2.],
            [2., 2.]])
    """
    if measure not in get_args(Measure):
        raise ValueError(f"measure: {measure!r} is none of {', '.join(get_args(Measure))}")
    rows = weights.float()
    if measure == "centred":
        rows = rows - rows.mean(dim=0)
    if measure != "dot":
        rows = normalize(rows, dim=1)
    products = rows @ rows.T
    return (
        products.triu() + products.triu(1).T
    )  # a kernel may sum (a, b) and (b, a) in different orders


def class_similarity(teacher: Teacher, measure: Measure = "dot") -> Tensor:
    """Similarity of the teacher's classes: (classes, classes) float32."""
    return similarity_of_weights(teacher.class_weights.cpu(), measure)


def most_similar(similarity: Tensor, count: int) -> Tensor:
    """The most similar classes of each class, itself always first: (classes, classes) to (classes,
    count) indices.

    With raw inner products a class need not be the largest of its own row, but it is the one its
    images are made of.
    """
    ranked = similarity.clone()
    ranked.fill_diagonal_(float("inf"))
    return ranked.argsort(dim=1, descending=True, stable=True)[:, :count]


def top_similar(
    similarity: Tensor, names: Sequence[str], count: int
) -> list[tuple[str, int, str, float]]:
    """The classes most similar to each other class, for people: (class, rank from 1, similar class,
    similarity).
    """
    count = min(count, len(names) - 1)
    ranked = most_similar(similarity, count + 1)[:, 1:].tolist()
    return [
        (names[k], rank, names[other], float(similarity[k, other]))
        for k, others in enumerate(ranked)
        for rank, other in enumerate(others, start=1)
    ]
