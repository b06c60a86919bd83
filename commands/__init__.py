"""The commands of `deponij`, a file a group: flags in, one function called, the answer printed."""
