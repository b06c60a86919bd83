"""One file a family of backbones; what families share lies beside them."""
