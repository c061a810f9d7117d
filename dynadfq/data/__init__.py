"""Labelled data sets, which train a teacher and evaluate; no data-free method reads them."""

from dynadfq.data.classes import ClassOrder
from dynadfq.data.labelled import LabelledSet
from dynadfq.data.loading import class_names, load
from dynadfq.data.sets import CARDS, DataCard

__all__ = ["CARDS", "ClassOrder", "DataCard", "LabelledSet", "class_names", "load"]
