"""Latents of real images."""
