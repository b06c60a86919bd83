"""A feature store for vision: crop once, extract once, learn cheaply."""
