"""Housekeeping of depots and views for the command line: what `store.upkeep` finds, in words."""
