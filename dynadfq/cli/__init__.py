"""The command line: one file a command, each reading its arguments, calling the library, and
printing.
"""
