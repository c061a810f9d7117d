"""Matrices over pairs of classes: from long tables to squares, and which classes are shown."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

Floats = NDArray[np.floating[Any]]
MOST_SHOWN = 40  # classes whose names can be read beside a map


class Pairs(NamedTuple):
    """Two (classes, classes) matrices over all classes, and which to show, in that order."""

    first: Floats
    second: Floats
    shown: NDArray[np.int64]

    def part(self, matrix: Floats) -> Floats:
        """Return what is shown of a matrix."""
        rows: Floats = matrix[np.ix_(self.shown, self.shown)]
        return rows


def similar_pairs(similarity: Floats, co_occurrence: pd.DataFrame, names: list[str]) -> Pairs:
    """Pair weight similarity with co-occurrence in predictions, for the most similar classes."""
    upper = square(co_occurrence, "class_a", "class_b", "value", names)
    shown = leading_classes(similarity, MOST_SHOWN)
    return Pairs(similarity, upper + upper.T, _in_order(shown, similarity))


def confused_pairs(confusion: pd.DataFrame, similarity: Floats, names: list[str]) -> Pairs:
    """Pair the teacher's with the student's confusion, in percent of each label's images."""
    teacher = row_percent(square(confusion, "label", "prediction", "teacher", names))
    student = row_percent(square(confusion, "label", "prediction", "student", names))
    return Pairs(teacher, student, _in_order(most_confused(confusion, names), similarity))


def most_confused(confusion: pd.DataFrame, names: list[str]) -> NDArray[np.int64]:
    """Return the classes that either network confuses most often, ascending."""
    teacher = square(confusion, "label", "prediction", "teacher", names)
    student = square(confusion, "label", "prediction", "student", names)
    return leading_classes(np.maximum(teacher, student), MOST_SHOWN)


def square(long: pd.DataFrame, row: str, column: str, value: str, names: list[str]) -> Floats:
    """Turn a long table into a (classes, classes) matrix, zero where a pair is not listed."""
    matrix = np.zeros((len(names), len(names)))
    values = long[value].to_numpy(dtype=float)
    matrix[long[row].to_numpy(dtype=int), long[column].to_numpy(dtype=int)] = values
    return matrix


def leading_classes(strength: Floats, count: int) -> NDArray[np.int64]:
    """Return at most ``count`` classes, ascending: those of the strongest pairs.

    >>> leading_classes(np.array([[9.0, 1, 0], [0, 9, 3], [0, 0, 9]]), 2)
    array([1, 2])
    """
    pairs = np.where(np.eye(len(strength), dtype=bool), -np.inf, strength)
    strongest_first = np.argsort(-pairs, axis=None, kind="stable")
    classes = np.stack(np.unravel_index(strongest_first, pairs.shape), axis=1)
    return np.sort(pd.unique(classes.ravel())[:count])


def row_percent(counts: Floats) -> Floats:
    """Return confusion counts in percent of each row; a class without images gives zeros."""
    totals = counts.sum(axis=1, keepdims=True)
    shares: Floats = 100.0 * counts / np.where(totals > 0, totals, 1)
    return shares


def off_diagonal(matrix: Floats) -> Floats:
    """Return the entries above the diagonal of a symmetric matrix."""
    values: Floats = matrix[np.triu_indices(len(matrix), k=1)]
    return values


def class_order(similarity: Floats) -> NDArray[np.int64]:
    """Order classes so that similar ones are neighbours: leaves of an average-linkage tree."""
    if len(similarity) < 3:
        return np.arange(len(similarity))
    whole = np.asarray(similarity, dtype=float)
    mean = (whole + whole.T) / 2
    distance = off_diagonal(mean).max() - mean
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), method="average", optimal_ordering=True)
    return np.asarray(leaves_list(tree), dtype=np.int64)


def _in_order(classes: NDArray[np.int64], similarity: Floats) -> NDArray[np.int64]:
    """Order the given classes by similarity."""
    ordered: NDArray[np.int64] = classes[class_order(similarity[np.ix_(classes, classes)])]
    return ordered
