"""What to do next: pictures that are spoilt, and an ordered list of what a run has found, each with what acts on it."""
