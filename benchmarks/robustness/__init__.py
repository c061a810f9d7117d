"""How the library answers wrong input: counts of trials, sentences, tracebacks and acceptances."""
