"""Figures: instances on images, training curves, the paper's qualitative layout."""
