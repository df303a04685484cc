"""Generators: their networks, training and loading; latents, hyperplanes, complements and rendering."""
