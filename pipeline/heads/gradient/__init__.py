"""Heads that learn by gradient steps, many at once."""
