"""The attentive probe over patch tokens."""
