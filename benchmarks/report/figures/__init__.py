"""Figures of the grid: data in, matplotlib Figure out."""
