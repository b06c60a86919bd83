"""Asking an index: pictures, words, items and files to vectors, and the nearest items to them."""
