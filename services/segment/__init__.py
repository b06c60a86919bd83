"""Label maps, overlays and heat maps of pictures that a user names."""
