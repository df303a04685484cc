"""Backbones, training, objectives, metrics."""
