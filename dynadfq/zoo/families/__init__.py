"""One module per library of networks; it is imported when one of its networks is asked for."""
