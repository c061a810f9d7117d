"""Figures of the grid: data in, matplotlib Figure out."""

from benchmarks.report.figures.layers import layer_statistics
from benchmarks.report.figures.looks import measured
from benchmarks.report.figures.pareto import accuracy_against_cost, front
from benchmarks.report.figures.studies import Panel, panels, parameter_study

__all__ = [
    "Panel",
    "accuracy_against_cost",
    "front",
    "layer_statistics",
    "measured",
    "panels",
    "parameter_study",
]
