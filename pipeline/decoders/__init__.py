"""Decoders: from a frozen encoder's maps to classes of pixels. They know tensors, never backbones."""
