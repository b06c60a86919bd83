"""A run on disk, as stages and services share it: settings, layout, examples, results, thumbnails."""
