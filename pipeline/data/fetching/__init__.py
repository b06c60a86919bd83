"""Bringing TACO to this machine."""
