"""Pictures of any size to label maps: windows, blending, networks that segment. No project paths."""
