"""Finishes: ways to change a trained network with held-out images, without training it again."""
