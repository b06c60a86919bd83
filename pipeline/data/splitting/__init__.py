"""From items to parts, and what leaks between them."""
