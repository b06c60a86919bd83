"""Data sets as streams of items, one adapter a file."""
