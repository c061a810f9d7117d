"""Labelled data sets: used to train a teacher and to evaluate, by nothing else."""

from dynadfq.data.labelled import LabelledSet, load
from dynadfq.data.sets import CARDS, DataCard

__all__ = ["CARDS", "DataCard", "LabelledSet", "load"]
