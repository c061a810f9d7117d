"""The libraries that architectures come from; each module builds networks and tells what is known
of them.
"""
