"""One picture out of everything."""
