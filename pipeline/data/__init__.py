"""Data sets as streams of items, their splits, and what leaks between parts."""
