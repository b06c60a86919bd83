"""Pictures with label maps, from whatever says so: folders of label maps, outlines in COCO files."""
