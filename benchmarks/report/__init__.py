"""From finished cells to ``benchmarks/reports``: tables, figures and a page."""
