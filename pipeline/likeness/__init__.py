"""What is alike and what is not: perceptual hashes, cosines, groups, outliers. Arrays in, arrays out."""
