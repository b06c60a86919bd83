"""Looking after a set of pictures: near-duplicates, outliers, what a new batch adds."""
