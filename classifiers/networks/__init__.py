"""Classifier networks, the images that they see, and what they say of them."""
