"""Matrices over pairs of classes: from long tables to squares, and the order that makes them
readable.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

Floats = NDArray[np.floating[Any]]


def class_codes(column: pd.Series, names: list[str]) -> NDArray[np.int64]:
    """Class indices of a column that holds indices or class names."""
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(dtype=np.int64)
    place = {name: i for i, name in enumerate(names)}
    return np.array([place[str(value)] for value in column], dtype=np.int64)


def square(long: pd.DataFrame, row: str, column: str, value: str, names: list[str]) -> Floats:
    """Long form to a (classes, classes) matrix, zeros where a pair is not listed."""
    matrix = np.zeros((len(names), len(names)))
    matrix[class_codes(long[row], names), class_codes(long[column], names)] = long[value].to_numpy(
        dtype=float
    )
    return matrix


def both_ways(upper: Floats) -> Floats:
    """A matrix of which only the pairs a < b are filled, mirrored."""
    whole: Floats = upper + upper.T
    return whole


def leading_classes(strength: Floats, count: int) -> NDArray[np.int64]:
    """At most ``count`` classes, ascending: those of the strongest pairs; all of them if there are
    no more.

    >>> leading_classes(np.array([[9.0, 1, 0], [0, 9, 3], [0, 0, 9]]), 2)
    array([1, 2])
    """
    classes = len(strength)
    if classes <= count:
        return np.arange(classes)
    pairs = np.where(np.eye(classes, dtype=bool), -np.inf, strength).ravel()
    chosen: set[int] = set()
    for pair in np.argsort(-pairs, kind="stable"):
        wanted = chosen | set(divmod(int(pair), classes))
        if len(wanted) > count:
            break
        chosen = wanted
    return np.array(sorted(chosen), dtype=np.int64)


def row_percent(counts: Floats) -> Floats:
    """Confusion counts as percent of each row's images; a class without images gives zeros."""
    totals = counts.sum(axis=1, keepdims=True)
    shares: Floats = 100.0 * counts / np.where(totals > 0, totals, 1)
    return shares


def off_diagonal(matrix: Floats) -> Floats:
    """Entries above the diagonal of a symmetric matrix, each pair of classes once."""
    values: Floats = matrix[np.triu_indices(len(matrix), k=1)]
    return values


def class_order(similarity: Floats) -> NDArray[np.int64]:
    """Order of the classes that puts similar ones side by side: leaves of an average-linkage
    tree.
    """
    if len(similarity) < 3:
        return np.arange(len(similarity))
    mean = (np.asarray(similarity, dtype=float) + np.asarray(similarity, dtype=float).T) / 2
    distance = off_diagonal(mean).max() - mean
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), method="average", optimal_ordering=True)
    return np.asarray(leaves_list(tree), dtype=np.int64)
