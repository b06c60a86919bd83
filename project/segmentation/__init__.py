"""Segmentation: decoders learned from stored maps, and what came of them."""
