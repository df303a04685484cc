"""The settings of the training methods, a module for each family; they need no torch."""
