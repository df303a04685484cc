"""Inversion: finding the latents of real images."""
