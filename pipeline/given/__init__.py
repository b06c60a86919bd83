"""Embeddings that somebody made elsewhere: read from files and frames, checked, and named by their content."""
