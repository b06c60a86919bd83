"""One training loop, for decoders and for backbones. It knows neither, and no paths of a project."""
