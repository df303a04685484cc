"""Classifier networks, their training, and the code that only measures."""
