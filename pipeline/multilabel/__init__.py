"""Classifiers that answer each class with yes or no, for items with several labels."""
