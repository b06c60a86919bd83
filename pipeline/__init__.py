"""The library: arrays, tensors and modules in, arrays and modules out. No paths but a data set's own files."""
