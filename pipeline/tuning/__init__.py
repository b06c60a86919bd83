"""Backbones that learn: which of their weights, with low-rank adapters or without, and what was learned as a folder.

It knows backbones and the training loop, and no paths of a project.
"""
