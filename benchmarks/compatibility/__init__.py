"""A table of architectures that the library works on, each checked in a process of its own."""
