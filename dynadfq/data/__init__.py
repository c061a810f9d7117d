"""Labelled data sets: used to train a teacher and to evaluate, by nothing else."""

from dynadfq.data.classes import ClassOrder
from dynadfq.data.labelled import LabelledSet
from dynadfq.data.loading import card, class_names, load
from dynadfq.data.sets import CARDS, DataCard

__all__ = ["CARDS", "ClassOrder", "DataCard", "LabelledSet", "card", "class_names", "load"]
