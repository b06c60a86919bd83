"""How well features find what belongs together: one archive of items, asked by pictures, words and captions."""
