"""Figures of the report: data in, matplotlib Figure out. Draw and save inside `theme.style()`."""

from dynadfq.report.figures.budget import accuracy_by_budget
from dynadfq.report.figures.confusion import confusion_against_teacher
from dynadfq.report.figures.curves import learning_curves_figure
from dynadfq.report.figures.entropy import entropy_against_cost, entropy_distribution
from dynadfq.report.figures.headline import accuracy_against_cost
from dynadfq.report.figures.sensitivity import sensitivity_against_entropy
from dynadfq.report.figures.similarity import similarity_and_co_occurrence
from dynadfq.report.figures.sites import bits_per_site
from dynadfq.report.figures.theme import DARK, LIGHT, Theme
from dynadfq.report.figures.tiles import Tile, image_grid

__all__ = [
    "DARK",
    "LIGHT",
    "Theme",
    "Tile",
    "accuracy_against_cost",
    "accuracy_by_budget",
    "bits_per_site",
    "confusion_against_teacher",
    "entropy_against_cost",
    "entropy_distribution",
    "image_grid",
    "learning_curves_figure",
    "sensitivity_against_entropy",
    "similarity_and_co_occurrence",
]
