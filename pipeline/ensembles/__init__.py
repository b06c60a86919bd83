"""Classifiers made of other classifiers' logits. They know arrays, never backbones or heads."""
