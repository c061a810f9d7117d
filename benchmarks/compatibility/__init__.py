"""Which networks the library works on: a table of architectures, each tried in a process of its
own.
"""
