"""Learning to segment from stored maps: what the stage `decoders` and the benchmarks are made of."""
