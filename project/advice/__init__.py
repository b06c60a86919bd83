"""Advice on a run: what it is gathered from, and the commands that act on it. What is found: `deponij.pipeline.advice`."""
