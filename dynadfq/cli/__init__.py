"""The command line: one file per command.

Commands import torch when they run, so that help and usage errors appear at once.
"""
