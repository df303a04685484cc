"""The training methods, one module each; `classifiers.training.method_settings` has their settings."""
