"""The benchmark grid: methods × widths × teachers × seeds, as a DVC pipeline of its own, and the
tables made of it.
"""
