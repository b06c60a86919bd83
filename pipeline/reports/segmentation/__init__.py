"""What is told and drawn of segmentation."""
