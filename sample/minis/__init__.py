"""How the mini backbones were made."""
