"""A learned classifier's answers to new pictures."""
