"""The training of classifiers: batches, samplers, methods, recipes, and the loop."""
