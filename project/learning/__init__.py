"""What the learning stages share: examples, results folders, class texts."""
