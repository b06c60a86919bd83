"""Figures of merit over arrays of names and scores; nothing here knows a backbone, a file or a plot."""
