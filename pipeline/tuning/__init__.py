"""Backbones that learn: which weights, by which losses and from which pictures, and how what was tuned is written."""
