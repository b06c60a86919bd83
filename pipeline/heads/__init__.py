"""Classifiers over stored feature vectors, in scikit-learn's manner. They know arrays, never backbones."""
