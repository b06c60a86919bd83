"""Heads that start from text vectors."""
