"""Columns of views of texts that more than one room names."""

# The items' column that a caption stands in; empty for texts of classes.
CAPTION_COLUMN = "caption_column"
