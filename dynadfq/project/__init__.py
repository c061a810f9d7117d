"""A DVC project of one's own: the pipeline's files, copied out of the repository or the wheel."""
