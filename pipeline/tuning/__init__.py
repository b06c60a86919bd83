"""Backbones that learn: which of their weights, from pictures drawn how, by which losses, and what was learned as a folder.

It knows backbones and the training loop, and no paths of a project.
"""
