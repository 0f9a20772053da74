"""The parts of a segmenter, one concept per file."""
