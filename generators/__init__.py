"""GANs, their training and loading; latents, hyperplanes, complements, synthesis."""
