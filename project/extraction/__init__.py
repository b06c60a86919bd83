"""What an extraction needs besides a backbone: device, identity, provenance."""
