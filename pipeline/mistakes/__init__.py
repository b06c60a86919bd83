"""Labels worth a second look: probably wrong ones, near-duplicates that differ, classes that are confused."""
