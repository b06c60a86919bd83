"""The drawn data set, the mini backbones, their weights and how they were trained."""
