"""Classifier networks, the images that they see, and their outputs for images."""
